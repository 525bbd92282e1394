#include "pci/x86_64/pci_config_ports.h"

#include <algorithm>

#include "core/bytes.h"

namespace tsvmm {
namespace {

constexpr uint64_t kData = 4;  ///< CONFIG_DATA begins
constexpr uint32_t kEnable = 1U << 31;
constexpr uint32_t kImplemented = kEnable | 0xfffffc;

/// What of an access is inside the data window.
size_t inside(uint64_t offset, size_t size) {
  return std::min<size_t>(size, PciConfigPorts::kSize - offset);
}

}  // namespace

PciConfigPorts::PciConfigPorts(PciRoot& root, const PciConfigPortsState& state)
    : root_(root), state_(state) {}

PciConfigPortsState PciConfigPorts::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void PciConfigPorts::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});
  if (offset < kData) {
    if (offset == 0 && data.size() == sizeof(uint32_t)) store(data, state().address);
    return;
  }
  const Target target = find(offset);
  if (!target.present) return;
  root_.config_read(target.slot, target.offset, data.first(inside(offset, data.size())));
}

void PciConfigPorts::write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset < kData) {
    if (offset != 0 || data.size() != sizeof(uint32_t)) return;
    const std::lock_guard lock(mutex_);
    state_.address = load<uint32_t>(data) & kImplemented;
    return;
  }
  const Target target = find(offset);
  if (!target.present) return;
  root_.config_write(target.slot, target.offset, data.first(inside(offset, data.size())));
}

PciConfigPorts::Target PciConfigPorts::find(uint64_t offset) const {
  const uint32_t address = state().address;
  const bool bus_and_function_0 = (address >> 16 & 0xff) == 0 && (address >> 8 & 7) == 0;
  return {(address & kEnable) != 0 && bus_and_function_0, address >> 11 & 0x1f,
          (address & 0xfc) + static_cast<uint32_t>(offset - kData)};
}

}  // namespace tsvmm
