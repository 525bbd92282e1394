#include "hypervisor/kvm/kvm_vm.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "hypervisor/kvm/kvm_arch.h"

namespace tsvmm {
namespace {

class KvmDoorbellRegistration : public DoorbellRegistration {
 public:
  KvmDoorbellRegistration(int vm_fd, const kvm_ioeventfd& registration)
      : vm_fd_(vm_fd), registration_(registration) {}
  ~KvmDoorbellRegistration() override {
    registration_.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    ::ioctl(vm_fd_, KVM_IOEVENTFD, &registration_);
  }

 private:
  const int vm_fd_;
  kvm_ioeventfd registration_;
};

}  // namespace

KvmVm::KvmVm(EmptyVm empty, GuestMemory& memory, uint32_t highest_vcpu_id)
    : memory_(memory), kvm_(std::move(empty.kvm)), vm_(std::move(empty.fd)) {
  const int limit = kvm_.capability(KVM_CAP_IRQ_ROUTING);
  router_ = std::make_shared<IrqRouter>(vm_.get(), kvm_arch::wired_interrupts(),
                                        static_cast<unsigned>(limit));
  kvm_arch::prepare_address_space(kvm_, vm_.get());
  try {
    memory_.add_listener(*this);
    kvm_arch::create_interrupt_controllers(vm_.get(), highest_vcpu_id);
  } catch (...) {
    // The destructor will not run, and the memory must not call what is gone.
    memory_.remove_listener(*this);
    throw;
  }
}

KvmVm::~KvmVm() { memory_.remove_listener(*this); }

void KvmVm::region_added(const MemoryRegion& region) {
  const auto free_slot = std::ranges::find(slots_, false);
  const auto slot = static_cast<uint32_t>(free_slot - slots_.begin());
  kvm_userspace_memory_region request{};
  request.slot = slot;
  request.guest_phys_addr = region.address;
  request.memory_size = region.size;
  request.userspace_addr = reinterpret_cast<uint64_t>(region.host);
  check_errno(::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &request),
              "KVM_SET_USER_MEMORY_REGION");
  if (slot == slots_.size()) {
    slots_.push_back(true);
    slot_address_.push_back(region.address);
  } else {
    slots_[slot] = true;
    slot_address_[slot] = region.address;
  }
}

void KvmVm::region_removed(const MemoryRegion& region) {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (!slots_[slot] || slot_address_[slot] != region.address) continue;
    kvm_userspace_memory_region request{};
    request.slot = slot;
    request.guest_phys_addr = region.address;
    ::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &request);
    slots_[slot] = false;
  }
}

std::unique_ptr<Interrupt> KvmVm::create_msi() {
  const uint32_t gsi = router_->allocate();
  try {
    return std::make_unique<KvmInterrupt>(router_, vm_.get(), gsi, true);
  } catch (...) {
    router_->release(gsi);
    throw;
  }
}

std::unique_ptr<Interrupt> KvmVm::create_wired_interrupt(unsigned gsi) {
  return std::make_unique<KvmInterrupt>(router_, vm_.get(), gsi, false);
}

std::unique_ptr<DoorbellRegistration> KvmVm::register_doorbell(GuestAddress address,
                                                               const EventFd& event) {
  kvm_ioeventfd registration{};
  registration.addr = address;
  registration.len = 0;  // any width: the address names the queue, whatever is written
  registration.fd = event.fd();
  if (::ioctl(vm_.get(), KVM_IOEVENTFD, &registration) != 0) return nullptr;
  return std::make_unique<KvmDoorbellRegistration>(vm_.get(), registration);
}

std::unique_ptr<Vcpu> KvmVm::create_vcpu(uint32_t id) {
  return kvm_arch::create_vcpu(kvm_, vcpu_fd(id), id);
}

/// vCPUs are created side by side, each on its own thread.
int KvmVm::vcpu_fd(uint32_t id) {
  {
    const std::lock_guard lock(vcpu_mutex_);
    const auto known = vcpu_fds_.find(id);
    if (known != vcpu_fds_.end()) return known->second.get();
  }
  UniqueFd created(check_errno(::ioctl(vm_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)),
                               "KVM_CREATE_VCPU"));
  const std::lock_guard lock(vcpu_mutex_);
  return vcpu_fds_.emplace(id, std::move(created)).first->second.get();
}

void KvmVm::save_clock() noexcept {
  kvm_clock_data clock{};
  clock_saved_ = ::ioctl(vm_.get(), KVM_GET_CLOCK, &clock) == 0;
  saved_clock_ = clock.clock;
  clock_has_realtime_ = (clock.flags & KVM_CLOCK_REALTIME) != 0;
  saved_realtime_ = clock.realtime;
}

void KvmVm::restore_clock() noexcept {
  if (!clock_saved_) return;
  kvm_clock_data clock{};
  clock.clock = saved_clock_;
  if (clock_has_realtime_) {
    // KVM itself moves the clock on by the wall time since then.
    clock.flags = KVM_CLOCK_REALTIME;
    clock.realtime = saved_realtime_;
  }
  ::ioctl(vm_.get(), KVM_SET_CLOCK, &clock);
}

std::function<std::unique_ptr<Vm>(GuestMemory&, uint32_t)> kvm_maker(
    std::shared_ptr<PrecreatedVm> precreated) {
  return [precreated = std::move(precreated)](GuestMemory& memory, uint32_t highest_vcpu_id) {
    return std::make_unique<KvmVm>(precreated ? precreated->take() : EmptyVm{}, memory,
                                   highest_vcpu_id);
  };
}

}  // namespace tsvmm
