#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "hypervisor/hypervisor.h"

namespace tsvmm {

/// The VM's table of global system interrupts (GSIs): which message each of them delivers. The
/// first ones are wired interrupts, the rest is handed out. KVM takes only whole tables, so
/// every change sends all of it.
class IrqRouter {
 public:
  /// `vm_fd` outlives the router; `limit` is KVM_CAP_IRQ_ROUTING, the most GSIs that KVM takes.
  IrqRouter(int vm_fd, unsigned wired, unsigned limit)
      : vm_fd_(vm_fd), wired_(wired), limit_(limit), routes_(wired) {}

  /// Throws Error when all are taken.
  uint32_t allocate();
  void release(uint32_t gsi) noexcept;
  bool set(uint32_t gsi, const MsiMessage& message) noexcept;
  void clear(uint32_t gsi) noexcept;
  /// The VM's end will take the whole table and all irqfds down: changes do nothing from now on.
  void abandon() noexcept { abandoned_.store(true); }
  [[nodiscard]] bool abandoned() const noexcept { return abandoned_.load(); }

 private:
  struct Route {
    bool taken = false;
    std::optional<MsiMessage> message;
  };
  bool commit_locked() noexcept;

  const int vm_fd_;
  const unsigned wired_;
  const unsigned limit_;
  std::atomic<bool> abandoned_ = false;
  std::mutex mutex_;
  std::vector<Route> routes_;
};

/// An irqfd on one GSI of a router.
class KvmInterrupt : public Interrupt {
 public:
  /// `owned` GSIs are given back at the end. Throws Error.
  KvmInterrupt(std::shared_ptr<IrqRouter> router, int vm_fd, uint32_t gsi, bool owned);
  ~KvmInterrupt() override;

  void trigger() noexcept override { event_.signal(); }
  bool set_message(const MsiMessage& message) noexcept override {
    return router_->set(gsi_, message);
  }
  void clear() noexcept override { router_->clear(gsi_); }
  bool connect(const EventFd& source) noexcept override { return change_irqfd(source, 0); }
  void disconnect(const EventFd& source) noexcept override;

 private:
  bool change_irqfd(const EventFd& event, uint32_t flags) noexcept;

  std::shared_ptr<IrqRouter> router_;
  const int vm_fd_;
  const uint32_t gsi_;
  const bool owned_;
  EventFd event_;
};

}  // namespace tsvmm
