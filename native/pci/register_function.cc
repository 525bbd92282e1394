#include "pci/register_function.h"

#include <utility>

namespace tsvmm {

RegisterFunction::RegisterFunction(const PciIdentity& identity, uint64_t bar0, uint64_t bar0_size,
                                   std::shared_ptr<BusDevice> device)
    : config_(identity), device_(std::move(device)) {
  config_.add_memory_bar(0, bar0_size, false, bar0);
  config_.set_command(kPciCommandMemory);
}

void RegisterFunction::config_read(uint32_t offset, std::span<uint8_t> data) noexcept {
  config_.read(offset, data);
}

void RegisterFunction::config_write(uint32_t offset, std::span<const uint8_t> data) noexcept {
  config_.write(offset, data);
}

std::optional<BarRequest> RegisterFunction::bar(unsigned index) const noexcept {
  return config_.bar(index);
}

BusDevice* RegisterFunction::bar_device(unsigned /*index*/) noexcept { return device_.get(); }

}  // namespace tsvmm
