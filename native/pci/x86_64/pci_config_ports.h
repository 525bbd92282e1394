#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "bus/bus_device.h"
#include "pci/pci_root.h"

namespace tsvmm {

struct PciConfigPortsState {
  uint32_t address = 0;  ///< what CONFIG_ADDRESS holds
};

/// Configuration mechanism #1 of PCs (PCI 3.0 §3.2.2.3.2): CONFIG_ADDRESS of exactly 32 bits, and
/// behind it CONFIG_DATA, a window of four bytes.
class PciConfigPorts final : public BusDevice {
 public:
  /// Where PCs have it.
  static constexpr uint16_t kPort = 0xcf8;
  static constexpr uint64_t kSize = 8;

  /// `root` outlives it.
  explicit PciConfigPorts(PciRoot& root, const PciConfigPortsState& state = {});
  [[nodiscard]] PciConfigPortsState state() const;

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  struct Target {
    bool present;
    unsigned slot;
    uint32_t offset;
  };
  [[nodiscard]] Target find(uint64_t offset) const;

  PciRoot& root_;
  mutable std::mutex mutex_;
  PciConfigPortsState state_;
};

}  // namespace tsvmm
