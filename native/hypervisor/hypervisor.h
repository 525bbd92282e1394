#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/event_fd.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// A message-signalled interrupt: a store of `data` to `address` (PCI 3.0 §6.8, SDM vol. 3 §11.11).
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
};

/// One interrupt into the guest, triggered from any thread without a vCPU exit. On KVM an irqfd with an MSI route.
/// Until a message is set, or after clear(), triggers are lost.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  virtual void trigger() noexcept = 0;
  /// What a trigger delivers from now on. False if the hypervisor refuses (the line then delivers nothing).
  virtual bool set_message(const MsiMessage& message) noexcept = 0;
  virtual void clear() noexcept = 0;
};

/// A guest store of any width to `address` signals an EventFd without reaching a vCPU's user space.
/// Lives as long as this object. Where the hypervisor has no such path, the store arrives at the device as MMIO
/// instead, so a device must treat a notify write as a signal of the same EventFd.
class Doorbell {
 public:
  virtual ~Doorbell() = default;
};

/// The interrupt and doorbell side of a VM, as devices need it.
class InterruptFabric {
 public:
  virtual ~InterruptFabric() = default;
  /// A line of its own for an MSI-X vector. Throws Error when routes or descriptors run out.
  virtual std::unique_ptr<InterruptLine> create_line() = 0;
  /// The line behind I/O APIC pin `pin`; the I/O APIC's emulation sets its message. Throws Error.
  virtual std::unique_ptr<InterruptLine> create_ioapic_line(unsigned pin) = 0;
  /// nullptr if the hypervisor has no doorbells or refuses this one: the device then sees the stores as MMIO.
  virtual std::unique_ptr<Doorbell> create_doorbell(GuestAddress address, const EventFd& event) = 0;
};

}  // namespace tsvmm
