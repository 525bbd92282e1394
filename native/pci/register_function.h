#pragma once

#include <memory>

#include "pci/config_space.h"
#include "pci/pci_function.h"

namespace tsvmm {

/// A PCI function that is nothing but a device behind a 32-bit memory BAR, without interrupts.
class RegisterFunction : public PciFunction {
 public:
  /// `bar0_size` is a power of two, at least 16; the BAR is decoded at `bar0` from the start.
  /// Throws Error.
  RegisterFunction(const PciIdentity& identity, uint64_t bar0, uint64_t bar0_size,
                   std::shared_ptr<BusDevice> device);

  [[nodiscard]] const ConfigSpaceState& state() const noexcept { return config_.state(); }
  void restore(const ConfigSpaceState& state) noexcept { config_.restore(state); }

  void config_read(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void config_write(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  [[nodiscard]] std::optional<BarRequest> bar(unsigned index) const noexcept override;
  BusDevice* bar_device(unsigned index) noexcept override;

 private:
  ConfigSpace config_;
  const std::shared_ptr<BusDevice> device_;
};

}  // namespace tsvmm
