#pragma once

#include <vector>

#include "core/unique_fd.h"
#include "hypervisor/vcpu_statistics.h"

namespace tsvmm {

/// What KVM counts of a vCPU by itself (Linux: Documentation/virt/kvm/api.rst, "KVM_GET_STATS_FD").
class KvmStatistics {
 public:
  /// On the vCPU's thread: the kernel would make others wait for the end of KVM_RUN.
  explicit KvmStatistics(int vcpu_fd);
  /// Single values only, no histograms; empty on kernels that have no such thing. Any thread.
  [[nodiscard]] std::vector<VcpuStatistics::Value> read() const;

 private:
  UniqueFd fd_;
};

}  // namespace tsvmm
