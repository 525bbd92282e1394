#pragma once

#include <cstdint>
#include <span>

namespace tsvmm {

/// What a port or MMIO access of the guest ends at.
///
/// Called on vCPU threads, several at once: an implementation locks for itself. `offset` is
/// relative to where the device is mapped and lies inside the mapping; the data may reach beyond
/// its end. Any size from 1 to 8 and any alignment can come.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  /// Fills `data`; what the device does not implement reads as all ones or zero, as its
  /// specification says.
  virtual void read(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

}  // namespace tsvmm
