#include "host/unix_address.h"

#include <sys/socket.h>

#include <cstring>

#include "core/error.h"

namespace tsvmm {

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.find('\0') != std::string::npos) {
    throw Error("EINVAL", "a socket's path contains a zero byte");
  }
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw Error("ENAMETOOLONG", "a socket's path must have 1 to 107 bytes: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace tsvmm
