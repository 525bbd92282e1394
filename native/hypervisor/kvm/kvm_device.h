#pragma once

#include <span>

#include "core/unique_fd.h"

namespace tsvmm {

/// An extension of KVM, and its name without KVM_CAP_.
struct KvmCapability {
  unsigned long extension;
  const char* name;
};

/// /dev/kvm: what the host's hypervisor can do, and the way to a new VM.
class KvmDevice {
 public:
  /// Throws Error: an errno if the device cannot be opened, ERR_TSVMM_KVM_VERSION or
  /// ERR_TSVMM_KVM_CAPABILITY if it lacks something that every machine needs.
  KvmDevice();

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// KVM_CHECK_EXTENSION, 0 if absent.
  [[nodiscard]] int capability(unsigned long extension) const noexcept;
  /// KVM_GET_API_VERSION that the constructor insists on.
  static constexpr int kApiVersion = 12;
  /// The most vCPUs of one VM.
  [[nodiscard]] int max_vcpus() const noexcept;
  [[nodiscard]] UniqueFd create_vm() const;

 private:
  void require(std::span<const KvmCapability> needed) const;

  UniqueFd fd_;
};

}  // namespace tsvmm
