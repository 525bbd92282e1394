#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tsvmm {

/// What a vCPU has done since it was made.
struct VcpuStatistics {
  struct Value {
    std::string name;
    uint64_t value;
  };
  unsigned index = 0;
  pid_t thread = 0;  ///< the kernel's id of the thread that it runs on
  /// Returns to this process, by what for.
  std::vector<Value> exits;
  /// The hypervisor's own, as it names them; empty if it tells nothing.
  std::vector<Value> hypervisor;
};

}  // namespace tsvmm
