#include "core/descriptor_name.h"

#include <unistd.h>

#include <array>
#include <climits>

namespace tsvmm {

std::string descriptor_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string descriptor_name(int fd) {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink(descriptor_path(fd).c_str(), path.data(), path.size());
  if (length <= 0) return "file descriptor " + std::to_string(fd);
  return {path.data(), static_cast<size_t>(length)};
}

}  // namespace tsvmm
