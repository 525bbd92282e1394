#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

/// What a base address register asks for at the moment.
struct BarRequest {
  uint64_t address;  ///< aligned to `size`
  uint64_t size;     ///< bytes, a power of two
  bool enabled;      ///< COMMAND.memory is set
};

/// One PCI function, as its root sees it. The root serializes every call here; accesses to the BARs
/// come concurrently through bar_device().
class PciFunction {
 public:
  static constexpr unsigned kBarCount = 6;

  virtual ~PciFunction() = default;

  /// Conventional configuration space: offset + data.size() is at most 256, any alignment, 1 to 8
  /// bytes.
  virtual void config_read(uint32_t offset, std::span<uint8_t> data) noexcept = 0;
  virtual void config_write(uint32_t offset, std::span<const uint8_t> data) noexcept = 0;

  // A function has no BARs unless it says otherwise.

  /// nullopt if BAR `index` (0 to 5) does not exist (or is the upper half of a 64-bit one).
  [[nodiscard]] virtual std::optional<BarRequest> bar(unsigned /*index*/) const noexcept {
    return std::nullopt;
  }
  /// What lies behind an existing BAR; lives as long as the function.
  virtual BusDevice* bar_device(unsigned /*index*/) noexcept { return nullptr; }
  /// The BAR is decoded at `address` from now on, or not any more: doorbells follow.
  virtual void bar_mapped(unsigned /*index*/, uint64_t /*address*/) noexcept {}
  virtual void bar_unmapped(unsigned /*index*/) noexcept {}
  /// Nothing is behind the function any more, for good: accesses to its BARs do nothing. Some may
  /// still be on their way when it is out of its slot, or a guest has not given it up.
  virtual void removed() noexcept {}
};

}  // namespace tsvmm
