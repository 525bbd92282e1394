#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

struct PciHotplugState {
  uint32_t segment = 0;   ///< that the other registers are of
  uint32_t inserted = 0;  ///< by slot, until the guest has read them
  uint32_t removing = 0;  ///< the same
  uint32_t awaited = 0;   ///< slots whose removal was asked for and that are not ejected yet
};

/// The PCI hot-plug controller of the DSDT's \_SB.PHPR: which slots of segment 0 have a new
/// function, which are to be given up, and the register by which the guest gives them up. 32-bit
/// accesses only; others read all ones and write nothing.
///
/// A guest ejects only what it was asked to give up: other slots, and a second ejection, do
/// nothing.
class PciHotplug final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 16;
  static constexpr unsigned kSlots = 32;

  /// `notify` interrupts the guest; any thread, and no lock is held. `ejected` runs on the vCPU
  /// thread that ejects, and must return at once, without calling this object.
  PciHotplug(std::function<void()> notify, std::function<void(unsigned slot)> ejected,
             const PciHotplugState& state = {});
  [[nodiscard]] PciHotplugState state() const;

  /// Slot `slot` (0 to 31) has a function now. Any thread.
  void insert(unsigned slot);
  /// Asks the guest to give it up; asking again reminds it. Any thread.
  void request_removal(unsigned slot);

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  [[nodiscard]] uint32_t read_register(uint64_t offset) noexcept;
  [[nodiscard]] uint32_t eject(uint32_t slots) noexcept;

  const std::function<void()> notify_;
  const std::function<void(unsigned)> ejected_;
  mutable std::mutex mutex_;
  PciHotplugState state_;
};

}  // namespace tsvmm
