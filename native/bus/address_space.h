#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <vector>

#include "bus/bus_device.h"

namespace tsvmm {

/// Decodes port or MMIO addresses to devices. Ranges come and go while the guest runs.
class AddressSpace {
 public:
  /// False if the range is empty, wraps, or overlaps a present one.
  [[nodiscard]] bool map(uint64_t base, uint64_t size, std::shared_ptr<BusDevice> device);
  /// Removes the range that begins at `base`; an access in progress may still end on the device.
  void unmap(uint64_t base);

  /// Unclaimed addresses read all ones.
  void read(uint64_t address, std::span<uint8_t> data) const;
  /// Unclaimed addresses drop the data.
  void write(uint64_t address, std::span<const uint8_t> data) const;

 private:
  struct Range {
    uint64_t base;
    uint64_t size;
    std::shared_ptr<BusDevice> device;
  };
  struct Hit {
    std::shared_ptr<BusDevice> device;
    uint64_t offset;
  };
  [[nodiscard]] Hit find(uint64_t address) const;

  mutable std::shared_mutex mutex_;
  std::vector<Range> ranges_;  ///< by base
};

}  // namespace tsvmm
