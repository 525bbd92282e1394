#include "pci/config_space.h"

#include <cstring>

#include "core/bytes.h"
#include "core/error.h"

namespace tsvmm {
namespace {

// PCI 3.0 §6.1, figure 6-1.
constexpr uint32_t kVendor = 0x00;
constexpr uint32_t kDevice = 0x02;
constexpr uint32_t kRevision = 0x08;
constexpr uint32_t kSubclass = 0x0a;
constexpr uint32_t kClass = 0x0b;
constexpr uint32_t kCacheLine = 0x0c;
constexpr uint32_t kSubsystemVendor = 0x2c;
constexpr uint32_t kSubsystem = 0x2e;

constexpr uint16_t kCommandInterruptDisable = 1 << 10;
constexpr uint16_t kStatusCapabilities = 1 << 4;
constexpr uint32_t kBarTypeMask = 0xf;
constexpr uint32_t kBarType64 = 0x4;

constexpr uint32_t bar_offset(unsigned index) { return pci_register::kBar0 + 4 * index; }

}  // namespace

template <typename T>
T ConfigSpace::get(uint32_t offset) const noexcept {
  return load<T>(state_.values, offset);
}
template uint8_t ConfigSpace::get(uint32_t) const noexcept;
template uint16_t ConfigSpace::get(uint32_t) const noexcept;
template uint32_t ConfigSpace::get(uint32_t) const noexcept;

template <typename T>
void ConfigSpace::set(uint32_t offset, T value, T writable) {
  store<T>(state_.values, value, offset);
  store<T>(writable_, writable, offset);
}

ConfigSpace::ConfigSpace(const PciIdentity& identity) {
  set<uint16_t>(kVendor, identity.vendor, 0);
  set<uint16_t>(kDevice, identity.device, 0);
  set<uint8_t>(kRevision, identity.revision, 0);
  set<uint8_t>(kSubclass, identity.subclass, 0);
  set<uint8_t>(kClass, identity.class_code, 0);
  set<uint16_t>(kSubsystemVendor, identity.subsystem_vendor, 0);
  set<uint16_t>(kSubsystem, identity.subsystem, 0);
  set<uint8_t>(kCacheLine, 0, 0xff);
  set<uint8_t>(pci_register::kInterruptLine, 0, 0xff);
  set<uint16_t>(pci_register::kCommand, 0,
                kPciCommandMemory | kPciCommandBusMaster | kCommandInterruptDisable);
}

void ConfigSpace::add_memory_bar(unsigned index, uint64_t size, bool is_64bit, uint64_t address) {
  const bool power_of_two = size >= 16 && (size & (size - 1)) == 0;
  if (index + (is_64bit ? 1 : 0) >= PciFunction::kBarCount || !power_of_two ||
      address % size != 0 || (!is_64bit && address + size > 1ULL << 32)) {
    throw Error("EINVAL", "invalid PCI base address register");
  }
  bars_[index] = {size, is_64bit};
  // The address bits below the size are hard-wired to zero, which is how a guest finds the size
  // (PCI 3.0 §6.2.5.1).
  const uint64_t mask = ~(size - 1);
  set<uint32_t>(bar_offset(index), static_cast<uint32_t>(address) | (is_64bit ? kBarType64 : 0),
                static_cast<uint32_t>(mask));
  if (is_64bit) {
    set<uint32_t>(bar_offset(index + 1), static_cast<uint32_t>(address >> 32),
                  static_cast<uint32_t>(mask >> 32));
  }
}

uint32_t ConfigSpace::add_capability(uint8_t id, std::span<const uint8_t> body,
                                     std::span<const uint8_t> writable) {
  const uint32_t offset = next_capability_;
  const size_t size = 2 + body.size();
  if (size > kSize - offset || (!writable.empty() && writable.size() != body.size())) {
    throw Error("EINVAL", "PCI capability does not fit");
  }
  state_.values[offset] = id;
  std::memcpy(&state_.values[offset + 2], body.data(), body.size());
  if (!writable.empty()) std::memcpy(&writable_[offset + 2], writable.data(), writable.size());
  state_.values[last_capability_ == 0 ? pci_register::kCapabilities : last_capability_ + 1] =
      static_cast<uint8_t>(offset);
  set<uint16_t>(pci_register::kStatus, kStatusCapabilities, 0);
  last_capability_ = offset;
  next_capability_ = (offset + static_cast<uint32_t>(size) + 3) & ~3U;
  return offset;
}

void ConfigSpace::set_command(uint16_t command) {
  store<uint16_t>(state_.values, command, pci_register::kCommand);
}

void ConfigSpace::read(uint32_t offset, std::span<uint8_t> data) const noexcept {
  std::memcpy(data.data(), &state_.values[offset], data.size());
}

void ConfigSpace::write(uint32_t offset, std::span<const uint8_t> data) noexcept {
  for (size_t i = 0; i < data.size(); ++i) {
    const uint8_t mask = writable_[offset + i];
    uint8_t& value = state_.values[offset + i];
    value = static_cast<uint8_t>((value & ~mask) | (data[i] & mask));
  }
}

std::optional<BarRequest> ConfigSpace::bar(unsigned index) const noexcept {
  if (index >= PciFunction::kBarCount || bars_[index].size == 0) return std::nullopt;
  uint64_t address = get<uint32_t>(bar_offset(index)) & ~kBarTypeMask;
  if (bars_[index].is_64bit) {
    address |= uint64_t{get<uint32_t>(bar_offset(index + 1))} << 32;
  }
  const bool enabled = (get<uint16_t>(pci_register::kCommand) & kPciCommandMemory) != 0;
  return BarRequest{address, bars_[index].size, enabled};
}

}  // namespace tsvmm
