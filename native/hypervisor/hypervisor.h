#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/event_fd.h"
#include "hypervisor/vcpu_debug.h"
#include "hypervisor/vcpu_statistics.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// A message-signalled interrupt: a store of `data` to `address` (PCI 3.0 §6.8).
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
};

/// One interrupt into the guest, triggered from any thread without a vCPU exit. On KVM an irqfd
/// with an MSI route. Until a message is set, or after clear(), triggers are lost.
class Interrupt {
 public:
  virtual ~Interrupt() = default;
  virtual void trigger() noexcept = 0;
  /// What a trigger delivers from now on. False if the hypervisor refuses, and nothing is
  /// delivered then.
  virtual bool set_message(const MsiMessage& message) noexcept = 0;
  virtual void clear() noexcept = 0;
  /// Every signal of `source` is a trigger from now on, also one that is pending, without a thread
  /// of this process in between: for servers outside of it (vhost). False if the hypervisor has no
  /// such path.
  virtual bool connect(const EventFd& /*source*/) noexcept { return false; }
  /// Undoes connect(). Later signals stay in `source`.
  virtual void disconnect(const EventFd& /*source*/) noexcept {}
};

/// While this object lives, a guest store of any width to an address signals an EventFd, the
/// doorbell, without a vCPU exit to user space. Where the hypervisor has no such path, the store
/// arrives at the device as MMIO instead, so a device must treat a notify write as a signal of the
/// same EventFd.
class DoorbellRegistration {
 public:
  virtual ~DoorbellRegistration() = default;
};

/// The interrupt and doorbell side of a VM, as devices need it.
class InterruptFabric {
 public:
  virtual ~InterruptFabric() = default;
  /// For an MSI-X vector. Throws Error when routes or descriptors run out.
  virtual std::unique_ptr<Interrupt> create_msi() = 0;
  /// A wired interrupt, by its global system interrupt (ACPI 6.5 §5.2.13), whose message the
  /// emulation of the interrupt controller sets. Throws Error.
  virtual std::unique_ptr<Interrupt> create_wired_interrupt(unsigned gsi) = 0;
  /// nullptr if the hypervisor has no such path or refuses this one: the stores then reach the
  /// device as MMIO.
  virtual std::unique_ptr<DoorbellRegistration> register_doorbell(GuestAddress address,
                                                                  const EventFd& doorbell) = 0;
};

/// Takes a vCPU's accesses to devices. The kinds of access depend on the architecture, whose folder
/// defines it (x86_64/access_handler.h).
class AccessHandler;

/// What a vCPU is, and where the first one of a machine begins. Defined by the architecture's
/// folder, too (x86_64/vcpu_setup.h).
struct VcpuSetup;
struct VcpuEntry;

/// Why Vcpu::run returned.
struct VcpuExit {
  enum class Reason {
    kKicked,         ///< kick() was called
    kTripleFault,    ///< the processor shut down
    kInternalError,  ///< `code` is the hypervisor's reason
    kFailEntry,      ///< `code` is the hardware's reason
    kUnexpected,     ///< `code` is the exit reason, which is not handled
    kRunFailed,      ///< `code` is the errno of running, or of preparing the next run
    kDebug,          ///< a trap of the debugger was hit; `stop` says which
    kStarted,        ///< the guest begins to start a processor that waited for that
  };
  Reason reason;
  uint64_t code = 0;
  /// Registers and instruction bytes of a vCPU that cannot go on, for messages.
  std::string detail;
  DebugStop stop{};
};

/// A virtual processor. Created, set up, run and destroyed on one thread; kick() and inject_nmi()
/// come from any.
class Vcpu {
 public:
  virtual ~Vcpu() = default;
  /// Throws Error.
  virtual void set_up(const VcpuSetup& setup) = 0;
  /// After set_up(), before the first run. Throws Error.
  virtual void set_entry(const VcpuEntry& entry) = 0;
  /// Brings a vCPU that the guest has used and given up back to its state after set_up() with the
  /// same setup: it waits to be started. Throws Error.
  virtual void reset(const VcpuSetup& setup) = 0;
  /// Runs the guest, serving its accesses, until something happens that is not an access.
  virtual VcpuExit run(AccessHandler& handler) = 0;
  /// Makes the present or the next run() return kKicked.
  virtual void kick() noexcept = 0;
  virtual void inject_nmi() noexcept = 0;
  /// Tells the guest that it was stopped, so that its watchdogs do not take the time for a lock-up.
  /// On the vCPU's own thread.
  virtual void mark_paused() noexcept = 0;
  [[nodiscard]] virtual VcpuDebug& debug() noexcept = 0;
  /// From any thread, while it runs, too.
  [[nodiscard]] virtual VcpuStatistics statistics() const = 0;
};

/// A virtual machine: address space, interrupt controllers, clock.
class Vm : public InterruptFabric {
 public:
  /// On the thread that will run it. `id` is what the guest knows the processor by. Throws Error.
  virtual std::unique_ptr<Vcpu> create_vcpu(uint32_t id) = 0;
  /// The guest's clock is read when it is paused and written back when it is resumed, moved on by
  /// the wall time between.
  virtual void save_clock() noexcept = 0;
  virtual void restore_clock() noexcept = 0;
  /// The VM is about to be destroyed with all interrupts and doorbells: they need not be
  /// unregistered one by one, which can wait for the kernel each time. No vCPU runs any more.
  virtual void begin_teardown() noexcept = 0;
};

}  // namespace tsvmm
