#pragma once

#include "pci/config_space.h"
#include "pci/pci_function.h"

namespace tsvmm {

/// The host bridge in slot 0: an identity (8086:0d57) and nothing behind it.
class HostBridge : public PciFunction {
 public:
  HostBridge();

  [[nodiscard]] const ConfigSpaceState& state() const noexcept { return config_.state(); }
  void restore(const ConfigSpaceState& state) noexcept { config_.restore(state); }

  void config_read(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void config_write(uint32_t offset, std::span<const uint8_t> data) noexcept override;

 private:
  ConfigSpace config_;
};

}  // namespace tsvmm
