#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "core/unique_fd.h"
#include "host/datagram.h"
#include "host_test_support.h"

namespace tsvmm {
namespace {

class HostDatagram : public HostFolder {
 protected:
  /// A socket that receives at an address as send_datagram() takes it.
  static UniqueFd receiver_at(const std::string& address) {
    sockaddr_un own{};
    own.sun_family = AF_UNIX;
    std::memcpy(own.sun_path, address.data(), address.size());
    if (address[0] == '@') own.sun_path[0] = '\0';
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&own), size), 0);
    return socket;
  }
  static std::string received(const UniqueFd& socket) {
    char text[64];
    const ssize_t length = ::recv(socket.get(), text, sizeof text, MSG_DONTWAIT);
    return {text, length < 0 ? 0 : static_cast<size_t>(length)};
  }
  static void send(const std::string& address, const std::string& text) {
    send_datagram(address, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  static std::string code_of_sending_to(const std::string& address) {
    try {
      send(address, "x");
      return "";
    } catch (const Error& error) {
      return error.code();
    }
  }
};

TEST_F(HostDatagram, ReachesAPathAndAnAbstractName) {
  for (const std::string& address : {path("socket"), "@tsvmm-test-" + std::to_string(::getpid())}) {
    const UniqueFd receiver = receiver_at(address);
    send(address, "READY=1\n");
    EXPECT_EQ(received(receiver), "READY=1\n");
  }
}

TEST_F(HostDatagram, SaysWhyNot) {
  EXPECT_EQ(code_of_sending_to(path("nobody")), "ENOENT");
  EXPECT_EQ(code_of_sending_to(""), "ENAMETOOLONG");
  EXPECT_EQ(code_of_sending_to("/" + std::string(107, 'a')), "ENAMETOOLONG");
}

TEST_F(HostDatagram, DoesNotWaitForAReceiverThatDoesNotReceive) {
  const UniqueFd receiver = receiver_at(path("full"));
  std::string code;
  for (int i = 0; i < 100'000 && code.empty(); ++i) code = code_of_sending_to(path("full"));
  EXPECT_EQ(code, "EAGAIN");
}

}  // namespace
}  // namespace tsvmm
