#include "pci/pci_root.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "pci/config_space.h"

namespace tsvmm {
namespace {

bool overlaps(uint64_t start, uint64_t size, uint64_t other, uint64_t other_size) {
  return start < other + other_size && other < start + size;
}

}  // namespace

/// PCI Express 3.0 §7.2.2: bus, device and function in the address bits 20, 15 and 12.
class PciRoot::EcamDevice : public BusDevice {
 public:
  explicit EcamDevice(PciRoot& root) : root_(root) {}

  void read(uint64_t offset, std::span<uint8_t> data) override {
    std::ranges::fill(data, uint8_t{0xff});
    const auto target = find(offset);
    if (!target.present) return;
    root_.config_read(target.slot, target.offset, data.first(inside(target.offset, data.size())));
  }

  void write(uint64_t offset, std::span<const uint8_t> data) override {
    const auto target = find(offset);
    if (!target.present) return;
    root_.config_write(target.slot, target.offset, data.first(inside(target.offset, data.size())));
  }

 private:
  struct Target {
    bool present;
    unsigned slot;
    uint32_t offset;
  };

  static Target find(uint64_t offset) {
    const uint64_t function = offset / PciRoot::kFunctionSize;
    const bool present = function < PciRoot::kSlots * PciRoot::kFunctionsPerSlot &&
                         function % PciRoot::kFunctionsPerSlot == 0;
    return {present, static_cast<unsigned>(function / PciRoot::kFunctionsPerSlot),
            static_cast<uint32_t>(offset % PciRoot::kFunctionSize)};
  }

  static size_t inside(uint32_t offset, size_t size) {
    return std::min<size_t>(size, PciRoot::kFunctionSize - offset);
  }

  PciRoot& root_;
};

PciRoot::PciRoot(AddressSpace& mmio, PciWindow window32, PciWindow window64)
    : mmio_(mmio),
      window32_(window32),
      window64_(window64),
      ecam_(std::make_shared<EcamDevice>(*this)) {}

PciRoot::~PciRoot() {
  for (Slot& slot : slots_) clear(slot);
}

void PciRoot::clear(Slot& slot) {
  for (auto& range : slot.decoded) {
    if (range) mmio_.unmap(range->start);
    range.reset();
  }
  slot.function.reset();
}

std::shared_ptr<PciFunction> PciRoot::remove(unsigned slot) {
  const std::lock_guard lock(mutex_);
  if (slot >= kSlots || !slots_[slot].function) return nullptr;
  std::shared_ptr<PciFunction> function = slots_[slot].function;
  for (unsigned index = 0; index < PciFunction::kBarCount; ++index) {
    if (slots_[slot].decoded[index]) function->bar_unmapped(index);
  }
  function->removed();
  clear(slots_[slot]);
  update_decoding();  // of others that wanted its addresses
  return function;
}

void PciRoot::add(unsigned slot, std::shared_ptr<PciFunction> function) {
  const std::lock_guard lock(mutex_);
  if (slot >= kSlots || slots_[slot].function) {
    throw Error("EINVAL", "PCI slot " + std::to_string(slot) + " is taken or out of range");
  }
  slots_[slot].function = std::move(function);
  update_decoding();
  for (unsigned index = 0; index < PciFunction::kBarCount; ++index) {
    const auto bar = slots_[slot].function->bar(index);
    if (bar && bar->enabled && !slots_[slot].decoded[index]) {
      clear(slots_[slot]);
      throw Error("EINVAL", "PCI slot " + std::to_string(slot) + ": base address register " +
                                std::to_string(index) + " collides or lies outside the windows");
    }
  }
}

void PciRoot::disconnect(unsigned slot) noexcept {
  const std::lock_guard lock(mutex_);
  if (slots_[slot].function) slots_[slot].function->removed();
}

void PciRoot::config_read(unsigned slot, uint32_t offset, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  if (!slots_[slot].function) return;
  // There are no extended capabilities: what follows the conventional header reads as zeros (PCI
  // Express 3.0 §7.9.1).
  std::ranges::fill(data, uint8_t{0});
  if (offset >= ConfigSpace::kSize) return;
  slots_[slot].function->config_read(
      offset, data.first(std::min<size_t>(data.size(), ConfigSpace::kSize - offset)));
}

void PciRoot::config_write(unsigned slot, uint32_t offset, std::span<const uint8_t> data) {
  const std::lock_guard lock(mutex_);
  if (!slots_[slot].function || offset >= ConfigSpace::kSize) return;
  const size_t size = std::min<size_t>(data.size(), ConfigSpace::kSize - offset);
  slots_[slot].function->config_write(offset, data.first(size));
  const bool command = overlaps(offset, size, pci_register::kCommand, 2);
  const bool bars =
      overlaps(offset, size, pci_register::kBar0, pci_register::kBarsEnd - pci_register::kBar0);
  if (command || bars) update_decoding();
}

void PciRoot::update_decoding() {
  drop_changed_bars();
  for (Slot& slot : slots_) {
    if (!slot.function) continue;
    for (unsigned index = 0; index < PciFunction::kBarCount; ++index) decode_bar(slot, index);
  }
}

void PciRoot::drop_changed_bars() {
  for (Slot& slot : slots_) {
    for (unsigned index = 0; index < PciFunction::kBarCount; ++index) {
      auto& decoded = slot.decoded[index];
      if (!decoded) continue;
      const auto bar = slot.function->bar(index);
      if (bar && bar->enabled && bar->address == decoded->start) continue;
      mmio_.unmap(decoded->start);
      slot.function->bar_unmapped(index);
      decoded.reset();
    }
  }
}

void PciRoot::decode_bar(Slot& slot, unsigned index) {
  if (slot.decoded[index]) return;
  const auto bar = slot.function->bar(index);
  if (!bar || !bar->enabled || !in_a_window({bar->address, bar->size})) return;
  // The address space refuses what overlaps another range. The aliasing pointer keeps the function
  // alive for an access in progress.
  const std::shared_ptr<BusDevice> device(slot.function, slot.function->bar_device(index));
  if (!mmio_.map(bar->address, bar->size, device)) return;
  slot.decoded[index] = {bar->address, bar->size};
  slot.function->bar_mapped(index, bar->address);
}

bool PciRoot::in_a_window(const PciWindow& range) const {
  const auto inside = [&range](const PciWindow& window) {
    return range.start >= window.start && range.size <= window.size &&
           range.start - window.start <= window.size - range.size;
  };
  return inside(window32_) || inside(window64_);
}

}  // namespace tsvmm
