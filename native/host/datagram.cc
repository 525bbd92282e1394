#include "host/datagram.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>

#include "core/error.h"
#include "core/unique_fd.h"
#include "host/unix_address.h"

namespace tsvmm {

void send_datagram(const std::string& address, std::span<const uint8_t> bytes) {
  sockaddr_un target = unix_address(address);
  if (address.front() == '@') target.sun_path[0] = '\0';
  const UniqueFd socket(
      check_errno(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "making a socket"));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  const ssize_t sent =
      ::sendto(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&target), size);
  if (sent < 0) throw Error::from_errno("sending to " + address, errno);
}

}  // namespace tsvmm
