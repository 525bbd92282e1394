#pragma once

#include "vsock_test_support.h"

/// What the tests of the socket device begin with.
namespace tsvmm::virtio_test {

class VsockTest : public testing::Test {
 protected:
  explicit VsockTest(std::chrono::milliseconds timeout = kTestTimeout) : guest(timeout) {}

  void start(int buffers = 64) {
    guest.activate();
    if (buffers != 0) guest.post(buffers);
  }
  HostSocket server(uint32_t port) {
    return HostSocket::listen(guest.path + "_" + std::to_string(port));
  }
  /// At first it may look as if only one direction had ended.
  void expect_close_by_the_host() {
    for (uint32_t flags = 0; flags != vsock::kShutdownBoth;) {
      const auto packet = guest.receive(Operation::kShutdown);
      ASSERT_TRUE(packet);
      flags |= packet->header.flags;
    }
  }

  VsockGuest guest;
};

/// The guest's driver has posted its buffers.
class VsockActiveTest : public VsockTest {
 protected:
  VsockActiveTest() { start(); }
};

/// A host client is connected to the guest's port 1.
class VsockStreamTest : public VsockActiveTest {
 protected:
  VsockGuest::Connection stream = guest.accept_from_host(1);
};

/// Of a device that soon gives up on who does not answer.
class TimedVsockTest : public VsockTest {
 protected:
  static constexpr std::chrono::milliseconds kTimeout{1000};
  TimedVsockTest() : VsockTest(kTimeout) {}

  void expect_end_after_a_while(HostSocket& client) const {
    EXPECT_TRUE(client.ended());
    EXPECT_GE(std::chrono::steady_clock::now() - begin, kTimeout);
  }

  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
};

}  // namespace tsvmm::virtio_test
