#pragma once

#include <future>
#include <optional>
#include <utility>

#include "core/unique_fd.h"
#include "hypervisor/kvm/kvm_device.h"

namespace tsvmm {

/// A VM in which there is nothing yet. Making one takes KVM a quarter of a millisecond and needs no
/// configuration. Throws Error.
struct EmptyVm {
  KvmDevice kvm;
  UniqueFd fd = kvm.create_vm();
};

/// An EmptyVm that one thread makes while another still finds out what the machine is to be.
class PrecreatedVm {
 public:
  /// Once.
  void make() noexcept {
    std::optional<EmptyVm> made;
    try {
      made.emplace();
    } catch (...) {
      // The host may be able to later, when it is needed.
    }
    promise_.set_value(std::move(made));
  }
  /// Waits for make(). Once. If that made none, one is made now. Throws Error if there can be none.
  [[nodiscard]] EmptyVm take() {
    std::optional<EmptyVm> made = promise_.get_future().get();
    return made ? std::move(*made) : EmptyVm{};
  }

 private:
  std::promise<std::optional<EmptyVm>> promise_;
};

}  // namespace tsvmm
