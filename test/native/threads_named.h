#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace tsvmm {

/// How many threads of this process have that name.
inline size_t threads_named(std::string_view wanted) {
  size_t found = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    found += name == wanted ? 1 : 0;
  }
  return found;
}

}  // namespace tsvmm
