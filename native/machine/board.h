#pragma once

#include <functional>
#include <memory>
#include <span>

#include "device/cpu_hotplug.h"
#include "device/post_code.h"
#include "machine/device_set.h"
#include "machine/machine_event.h"
#include "machine/machine_spec.h"

namespace tsvmm {

/// What a machine has besides the devices that every architecture knows: its interrupt controller,
/// clock and power management, and how a vCPU's accesses find all devices. The architecture's
/// folder defines it.
class Board {
 public:
  virtual ~Board() = default;
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// Where the vCPUs' accesses go; lives as long as the board.
  [[nodiscard]] virtual AccessHandler& accesses() noexcept = 0;
  virtual void press_power_button() noexcept = 0;
  /// Tells the guest that the VM generation id is another one.
  virtual void vm_generation_changed() noexcept = 0;
  /// Whether the guest can be told of memory that it did not have at boot.
  [[nodiscard]] virtual bool takes_memory() const noexcept = 0;
  /// Tells it. If it can be; throws Error if it was told as often as it can be.
  virtual void memory_added(const MemoryRegion& region) = 0;
  /// nullptr in a machine whose vCPUs are there for good.
  [[nodiscard]] virtual CpuHotplug* cpu_hotplug() noexcept = 0;
  /// How far the guest's boot says that it has got.
  [[nodiscard]] virtual PostCodeState post_code() const = 0;

 protected:
  Board() = default;
};

/// Puts the board's devices beside those in `devices`, which outlives it, as does `fabric`. Takes
/// the descriptors out of `spec`. `vcpu_ejected` runs on the vCPU thread that ejects, and returns
/// at once. Throws Error.
[[nodiscard]] std::unique_ptr<Board> make_board(BoardSpec& spec, DeviceSet& devices,
                                                InterruptFabric& fabric, const EventReport& report,
                                                std::function<void(unsigned)> vcpu_ejected);

}  // namespace tsvmm
