#include "vsock_test_support.h"

/// A driver like an operating system's, which rings only where it is asked to and sleeps until it
/// is interrupted, hears of everything, and soon: a guest's kernel gives a connection two seconds.
namespace tsvmm::virtio_test {
namespace {

constexpr uint32_t kPort = 7;

class VsockSignalsTest : public testing::Test {
 protected:
  VsockSignalsTest() {
    guest.polite = true;
    guest.activate();
  }

  /// Credit updates of other streams may come before the answer.
  VsockGuest::Connection connect(uint32_t guest_port) {
    const auto begin = std::chrono::steady_clock::now();
    guest.send(Operation::kRequest, guest_port, kPort);
    std::optional<Packet> packet;
    do {
      packet = guest.receive();
    } while (packet && packet->operation() == Operation::kCreditUpdate);
    slowest = std::max(slowest, std::chrono::steady_clock::now() - begin);
    EXPECT_TRUE(packet && packet->operation() == Operation::kResponse);
    return {server.accept().value(), guest_port, kPort};
  }

  VsockGuest guest;
  HostSocket server = HostSocket::listen(guest.path + "_7");
  std::chrono::steady_clock::duration slowest{};
};

TEST_F(VsockSignalsTest, EveryConnectionIsAnswered) {
  // So few buffers that the device often waits for one, too.
  guest.post(2);
  for (uint32_t i = 0; i < 2000 && !HasFailure(); ++i) {
    const auto stream = connect(1000 + i);
    guest.send(Operation::kReset, stream);
  }
  EXPECT_LT(slowest, std::chrono::seconds(1));
}

TEST_F(VsockSignalsTest, ConnectionsAreAnsweredWhileStreamsAreStuck) {
  guest.post(64);
  const std::string more_than_a_socket_takes = pattern(1, 0, 64 * 1024);
  std::vector<VsockGuest::Connection> stuck;
  for (uint32_t i = 0; i < 40 && !HasFailure(); ++i) {
    stuck.push_back(connect(1000 + i));
    // All that its credit allows, and not waited for.
    for (int packet = 0; packet < 4; ++packet) {
      guest.begin_data(stuck.back(), more_than_a_socket_takes);
    }
  }
  EXPECT_LT(slowest, std::chrono::seconds(1));
}

TEST_F(VsockSignalsTest, DataComesWithInterruptsOnly) {
  guest.post(3);
  auto stream = connect(1000);
  const std::string text = pattern(2, 0, 4 << 20);
  std::thread writer([&] { stream.host.write(text); });
  std::string got;
  while (got.size() < text.size()) {
    const auto packet = guest.receive();
    if (!packet) break;
    got += packet->data;
    Header update = guest.header(Operation::kCreditUpdate, stream);
    update.fwd_cnt = static_cast<uint32_t>(got.size());
    if (packet->operation() == Operation::kCreditRequest) guest.send(update);
  }
  EXPECT_EQ(got, text);
  stream.host.close();
  writer.join();
}

}  // namespace
}  // namespace tsvmm::virtio_test
