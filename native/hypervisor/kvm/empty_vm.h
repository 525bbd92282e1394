#pragma once

#include <exception>
#include <future>

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
    try {
      promise_.set_value(EmptyVm{});
    } catch (...) {
      promise_.set_exception(std::current_exception());
    }
  }
  /// Waits for make(). Once. Throws Error if there could be none.
  [[nodiscard]] EmptyVm take() { return promise_.get_future().get(); }

 private:
  std::promise<EmptyVm> promise_;
};

}  // namespace tsvmm
