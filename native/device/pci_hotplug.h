#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "bus/bus_device.h"

namespace tsvmm {

/// Where a PCI function is: on bus 0 of a segment.
struct PciPlace {
  unsigned segment = 0;
  unsigned slot = 0;

  friend bool operator==(const PciPlace&, const PciPlace&) = default;
};

struct PciHotplugState {
  /// Of one segment, a bit for each slot.
  struct Slots {
    uint32_t inserted = 0;  ///< until the guest has read them
    uint32_t removing = 0;  ///< the same
    uint32_t awaited = 0;   ///< whose removal was asked for and that are not ejected yet
  };
  uint32_t segment = 0;  ///< that the other registers are of
  std::vector<Slots> segments;
};

/// The PCI hot-plug controller of the DSDT's \_SB.PHPR: which slots of the segment that the guest
/// has chosen have a new function, which are to be given up, and the register by which the guest
/// gives them up. 32-bit accesses only; others read all ones and write nothing.
///
/// A guest ejects only what it was asked to give up: other slots, and a second ejection, do
/// nothing.
class PciHotplug final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 16;
  static constexpr unsigned kSlots = 32;

  /// Of so many segments. `notify` interrupts the guest; any thread, and no lock is held. `ejected`
  /// runs on the vCPU thread that ejects, and must return at once, without calling this object.
  PciHotplug(size_t segments, std::function<void()> notify,
             std::function<void(PciPlace place)> ejected, PciHotplugState state = {});
  [[nodiscard]] PciHotplugState state() const;

  /// There is a function now. Any thread; the segment exists, and the slot is one of 0 to 31.
  void insert(PciPlace place);
  /// Asks the guest to give it up; asking again reminds it. Any thread.
  void request_removal(PciPlace place);

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  [[nodiscard]] uint32_t read_register(uint64_t offset) noexcept;
  void eject(uint32_t slots);
  [[nodiscard]] PciHotplugState::Slots* chosen() noexcept;

  const std::function<void()> notify_;
  const std::function<void(PciPlace)> ejected_;
  mutable std::mutex mutex_;
  PciHotplugState state_;
};

}  // namespace tsvmm
