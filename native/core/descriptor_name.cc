#include "core/descriptor_name.h"

#include <unistd.h>

#include <array>
#include <climits>

namespace tsvmm {

std::string descriptor_name(int fd) {
  const std::string number = std::to_string(fd);
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink(("/proc/self/fd/" + number).c_str(), path.data(), path.size());
  if (length <= 0) return "file descriptor " + number;
  return {path.data(), static_cast<size_t>(length)};
}

}  // namespace tsvmm
