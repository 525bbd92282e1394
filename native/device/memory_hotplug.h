#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

struct MemoryHotplugSlot {
  uint64_t address = 0;
  uint64_t size = 0;       ///< 0: nothing is in it
  uint32_t proximity = 0;  ///< the guest's NUMA node (ACPI 6.5 §6.2.15)
  bool inserting = false;  ///< the guest has not acknowledged it yet
};

struct MemoryHotplugState {
  static constexpr uint32_t kSlots = 8;

  uint32_t selected = 0;  ///< that the other registers are of
  std::array<MemoryHotplugSlot, kSlots> slots = {};
};

/// The memory hot-plug controller of the SSDT's \_SB.MHPC: which slots have memory that was not
/// there at boot, and where. A slot is selected by the first register; its status is a byte, all
/// others have 32 bits. Other accesses read all ones and write nothing.
///
/// Memory only comes: there is no register by which a guest gives it up.
class MemoryHotplug final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 24;

  /// `notify` interrupts the guest; any thread, and no lock is held.
  explicit MemoryHotplug(std::function<void()> notify, const MemoryHotplugState& state = {});
  [[nodiscard]] MemoryHotplugState state() const;

  /// Tells the guest that it has memory there. Any thread. Throws Error ENOSPC if no slot is free.
  void insert(uint64_t address, uint64_t size, uint32_t proximity);

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  [[nodiscard]] MemoryHotplugSlot* selected() noexcept;

  const std::function<void()> notify_;
  mutable std::mutex mutex_;
  MemoryHotplugState state_;
};

}  // namespace tsvmm
