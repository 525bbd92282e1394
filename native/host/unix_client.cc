#include "host/unix_client.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/reader_name.h"
#include "host/files.h"
#include "host/unix_address.h"

namespace tsvmm {
namespace {

/// An abstract name (unix(7)) that nobody else has: it goes with the socket.
void name_reader(int socket) {
  constexpr uint64_t kRandomBytes = 8;
  std::string name(kReaderName);
  name += '.';
  for (const uint8_t byte : random_bytes(kRandomBytes)) {
    std::array<char, 3> digits{};
    (void)std::snprintf(digits.data(), digits.size(), "%02x", byte);
    name += digits.data();
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(&address.sun_path[1], name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  check_errno(::bind(socket, reinterpret_cast<const sockaddr*>(&address), length),
              "naming a socket");
}

}  // namespace

UniqueFd connect_unix(const std::string& path, bool reader) {
  const sockaddr_un address = unix_address(path);
  UniqueFd socket(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                              "making a socket"));
  if (reader) name_reader(socket.get());
  check_errno(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              "connecting to a socket");
  return socket;
}

size_t send_descriptors(int socket, std::span<const uint8_t> bytes,
                        const std::vector<int>& descriptors) {
  if (descriptors.empty() || descriptors.size() > kMaxMessageDescriptors) {
    throw Error("EINVAL", "a message carries 1 to " + std::to_string(kMaxMessageDescriptors) +
                              " descriptors");
  }
  // A stream socket takes an empty message, and says that it went: without the descriptors.
  if (bytes.empty()) throw Error("EINVAL", "descriptors are sent with a byte at least");
  // What sendmsg(2) takes is not const, and stays as it is.
  iovec data{.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  const size_t size = descriptors.size() * sizeof(int);
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(kMaxMessageDescriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(size);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(header), descriptors.data(), size);
  const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) throw Error::from_errno("sending descriptors", errno);
  return static_cast<size_t>(sent);
}

}  // namespace tsvmm
