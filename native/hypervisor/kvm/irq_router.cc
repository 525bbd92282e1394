#include "hypervisor/kvm/irq_router.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "core/error.h"
#include "hypervisor/kvm/kvm_abi.h"

namespace tsvmm {

uint32_t IrqRouter::allocate() {
  const std::lock_guard lock(mutex_);
  for (uint32_t gsi = wired_; gsi < routes_.size(); ++gsi) {
    if (!routes_[gsi].taken) {
      routes_[gsi].taken = true;
      return gsi;
    }
  }
  if (routes_.size() >= limit_) throw Error("ENOSPC", "all interrupt routes are taken");
  routes_.push_back({.taken = true, .message = std::nullopt});
  return static_cast<uint32_t>(routes_.size() - 1);
}

void IrqRouter::release(uint32_t gsi) noexcept {
  const std::lock_guard lock(mutex_);
  const bool routed = routes_[gsi].message.has_value();
  routes_[gsi] = {};
  if (routed) commit_locked();
}

bool IrqRouter::set(uint32_t gsi, const MsiMessage& message) noexcept {
  const std::lock_guard lock(mutex_);
  auto& current = routes_[gsi].message;
  if (current && current->address == message.address && current->data == message.data) return true;
  current = message;
  if (commit_locked()) return true;
  current.reset();
  commit_locked();
  return false;
}

void IrqRouter::clear(uint32_t gsi) noexcept {
  const std::lock_guard lock(mutex_);
  if (!routes_[gsi].message) return;
  routes_[gsi].message.reset();
  commit_locked();
}

bool IrqRouter::commit_locked() noexcept {
  if (abandoned()) return true;
  KvmEntryList<kvm_irq_routing_entry> table(routes_.size());
  for (uint32_t gsi = 0; gsi < routes_.size(); ++gsi) {
    const auto& message = routes_[gsi].message;
    if (!message) continue;
    kvm_irq_routing_entry& entry = table.entries()[table.header().count++];
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(message->address);
    entry.u.msi.address_hi = static_cast<uint32_t>(message->address >> 32);
    entry.u.msi.data = message->data;
  }
  return ::ioctl(vm_fd_, kKvmSetGsiRouting, table.request()) == 0;
}

KvmInterrupt::KvmInterrupt(std::shared_ptr<IrqRouter> router, int vm_fd, uint32_t gsi, bool owned)
    : router_(std::move(router)), vm_fd_(vm_fd), gsi_(gsi), owned_(owned) {
  if (!change_irqfd(event_, 0)) throw Error::from_errno("KVM_IRQFD", errno);
}

KvmInterrupt::~KvmInterrupt() {
  if (router_->abandoned()) return;
  change_irqfd(event_, KVM_IRQFD_FLAG_DEASSIGN);
  if (owned_) router_->release(gsi_);
}

void KvmInterrupt::disconnect(const EventFd& source) noexcept {
  if (!router_->abandoned()) change_irqfd(source, KVM_IRQFD_FLAG_DEASSIGN);
}

/// KVM delivers what an event was signalled before it was assigned.
bool KvmInterrupt::change_irqfd(const EventFd& event, uint32_t flags) noexcept {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(event.fd());
  irqfd.gsi = gsi_;
  irqfd.flags = flags;
  return ::ioctl(vm_fd_, KVM_IRQFD, &irqfd) == 0;
}

}  // namespace tsvmm
