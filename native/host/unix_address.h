#pragma once

#include <sys/un.h>

#include <string>

namespace tsvmm {

/// Of the socket at a path. Throws Error: EINVAL for a zero byte, which would end the name early
/// or, as its first, make it an abstract one, that has no owner and no permissions; ENAMETOOLONG
/// unless it has 1 to 107 bytes.
sockaddr_un unix_address(const std::string& path);

}  // namespace tsvmm
