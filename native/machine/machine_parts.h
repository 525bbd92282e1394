#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/deadline.h"
#include "hypervisor/hypervisor.h"
#include "machine/board.h"
#include "machine/device_set.h"
#include "machine/event_gate.h"
#include "machine/vcpu_group.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// What a machine is made of. None of it knows the machine: where something cannot be waited for,
/// it goes on without that.
struct MachineParts {
  MachineParts() = default;
  /// However long it takes.
  ~MachineParts();
  MachineParts(const MachineParts&) = delete;
  MachineParts& operator=(const MachineParts&) = delete;

  /// Ends all that runs: afterwards nothing touches guest memory, and the host's files are closed.
  /// What does not come to its end until the deadline, each with what it waits for; empty if all
  /// has.
  [[nodiscard]] std::vector<std::string> stop(const Deadline& deadline);
  /// Frees `parts` as soon as everything has come to its end, on a thread that is not waited for:
  /// the host may write into guest memory until then.
  static void leave_behind(std::unique_ptr<MachineParts> parts) noexcept;

  // In the order in which they are needed.
  std::shared_ptr<EventGate> events;
  GuestAddress vm_generation = 0;
  std::vector<std::string> zone_files;  ///< zones_with_files()
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<Vm> vm;
  std::unique_ptr<DeviceSet> devices;
  std::unique_ptr<Board> board;
  std::unique_ptr<VcpuGroup> vcpus;
};

}  // namespace tsvmm
