#include "hypervisor/kvm/kvm_vm.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_vcpu.h"

namespace tsvmm {
namespace {

// Intel processors without "unrestricted guest" need three pages for a task state segment and one
// for an identity map. They lie in the part of the 32-bit hole that the platform's memory map keeps
// for them.
constexpr uint64_t kTssAddress = 0xf8000000;
constexpr uint64_t kIdentityMapAddress = 0xf8003000;

// The highest APIC id that an 8-bit destination can name; 255 is the broadcast.
constexpr uint32_t kHighestXapicId = 254;

class KvmDoorbell : public Doorbell {
 public:
  KvmDoorbell(int vm_fd, const kvm_ioeventfd& registration)
      : vm_fd_(vm_fd), registration_(registration) {}
  ~KvmDoorbell() override {
    registration_.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    ::ioctl(vm_fd_, KVM_IOEVENTFD, &registration_);
  }

 private:
  const int vm_fd_;
  kvm_ioeventfd registration_;
};

void enable_capability(int vm_fd, uint32_t capability, uint64_t argument, const char* what) {
  kvm_enable_cap request{};
  request.cap = capability;
  request.args[0] = argument;
  check_errno(::ioctl(vm_fd, KVM_ENABLE_CAP, &request), what);
}

}  // namespace

KvmVm::KvmVm(EmptyVm empty, GuestMemory& memory, uint32_t highest_apic_id)
    : memory_(memory), kvm_(std::move(empty.kvm)), vm_(std::move(empty.fd)) {
  const int limit = kvm_.capability(KVM_CAP_IRQ_ROUTING);
  router_ = std::make_shared<IrqRouter>(vm_.get(), static_cast<unsigned>(limit));
  uint64_t identity_map = kIdentityMapAddress;
  if (kvm_.capability(KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
    check_errno(::ioctl(vm_.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map),
                "KVM_SET_IDENTITY_MAP_ADDR");
  }
  if (kvm_.capability(KVM_CAP_SET_TSS_ADDR) > 0) {
    check_errno(::ioctl(vm_.get(), KVM_SET_TSS_ADDR, kTssAddress), "KVM_SET_TSS_ADDR");
  }
  try {
    memory_.add_listener(*this);
    create_interrupt_controllers(highest_apic_id);
  } catch (...) {
    // The destructor will not run, and the memory must not call what is gone.
    memory_.remove_listener(*this);
    throw;
  }
}

KvmVm::~KvmVm() { memory_.remove_listener(*this); }

void KvmVm::create_interrupt_controllers(uint32_t highest_apic_id) {
  enable_capability(vm_.get(), KVM_CAP_SPLIT_IRQCHIP, IrqRouter::kIoapicPins,
                    "KVM_CAP_SPLIT_IRQCHIP");
  if (highest_apic_id > kHighestXapicId) {
    enable_capability(vm_.get(), KVM_CAP_X2APIC_API,
                      KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
                      "KVM_CAP_X2APIC_API");
  }
}

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

std::unique_ptr<InterruptLine> KvmVm::create_line() {
  const uint32_t gsi = router_->allocate();
  try {
    return std::make_unique<KvmInterruptLine>(router_, vm_.get(), gsi, true);
  } catch (...) {
    router_->release(gsi);
    throw;
  }
}

std::unique_ptr<InterruptLine> KvmVm::create_ioapic_line(unsigned pin) {
  return std::make_unique<KvmInterruptLine>(router_, vm_.get(), pin, false);
}

std::unique_ptr<Doorbell> KvmVm::create_doorbell(GuestAddress address, const EventFd& event) {
  kvm_ioeventfd registration{};
  registration.addr = address;
  registration.len =
      0;  // any width: the value written does not matter, the address names the queue
  registration.fd = event.fd();
  if (::ioctl(vm_.get(), KVM_IOEVENTFD, &registration) != 0) return nullptr;
  return std::make_unique<KvmDoorbell>(vm_.get(), registration);
}

std::unique_ptr<Vcpu> KvmVm::create_vcpu(uint32_t apic_id) {
  return std::make_unique<KvmVcpu>(kvm_, vm_.get(), apic_id);
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
    std::shared_ptr<SpareVm> spare) {
  return [spare = std::move(spare)](GuestMemory& memory, uint32_t highest_apic_id) {
    return std::make_unique<KvmVm>(spare ? spare->take() : EmptyVm{}, memory, highest_apic_id);
  };
}

}  // namespace tsvmm
