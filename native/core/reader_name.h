#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace tsvmm {

/// Whoever connects to a console's socket from a socket whose own name begins with this only reads.
/// It is there when the connection is accepted, so nobody takes a reader for a writer meanwhile.
inline constexpr std::string_view kReaderName = "tsvmm-reader";

/// Whether a peer's address, `length` bytes as accept(2) gives it, says so: by an abstract name, or
/// a file's without its folder. Of a path of 108 bytes Linux counts a zero byte for which the
/// structure has no room (unix(7), "BUGS").
inline bool is_reader(const sockaddr_un& address, socklen_t length) {
  constexpr size_t kHead = offsetof(sockaddr_un, sun_path);
  if (length <= kHead || address.sun_family != AF_UNIX) return false;
  std::string_view name(address.sun_path,
                        std::min<size_t>(length - kHead, sizeof address.sun_path));
  if (name.front() == '\0') {
    name.remove_prefix(1);
  } else {
    name = name.substr(name.rfind('/') + 1);
  }
  return name.starts_with(kReaderName);
}

}  // namespace tsvmm
