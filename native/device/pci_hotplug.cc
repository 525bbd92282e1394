#include "device/pci_hotplug.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"

namespace tsvmm {
namespace {

constexpr uint64_t kInserted = 0x0;  ///< PCIU: cleared by reading
constexpr uint64_t kRemoving = 0x4;  ///< PCID: the same
constexpr uint64_t kEject = 0x8;     ///< B0EJ
constexpr uint64_t kSegment = 0xc;   ///< PSEG

constexpr uint32_t bit(unsigned slot) { return 1U << slot; }

}  // namespace

PciHotplug::PciHotplug(std::function<void()> notify, std::function<void(unsigned)> ejected,
                       const PciHotplugState& state)
    : notify_(std::move(notify)), ejected_(std::move(ejected)), state_(state) {}

PciHotplugState PciHotplug::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void PciHotplug::insert(unsigned slot) {
  {
    const std::lock_guard lock(mutex_);
    state_.inserted |= bit(slot);
  }
  notify_();
}

void PciHotplug::request_removal(unsigned slot) {
  {
    const std::lock_guard lock(mutex_);
    state_.removing |= bit(slot);
    state_.awaited |= bit(slot);
  }
  notify_();
}

void PciHotplug::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});
  if (data.size() == sizeof(uint32_t)) store(data, read_register(offset));
}

uint32_t PciHotplug::read_register(uint64_t offset) noexcept {
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kInserted:
      return state_.segment == 0 ? std::exchange(state_.inserted, 0) : 0;
    case kRemoving:
      return state_.segment == 0 ? std::exchange(state_.removing, 0) : 0;
    case kSegment:
      return state_.segment;
    default:
      return 0;
  }
}

void PciHotplug::write(uint64_t offset, std::span<const uint8_t> data) {
  if (data.size() != sizeof(uint32_t)) return;
  const auto value = load<uint32_t>(data);
  if (offset == kSegment) {
    const std::lock_guard lock(mutex_);
    state_.segment = value;
  } else if (offset == kEject) {
    const uint32_t slots = eject(value);
    for (unsigned slot = 0; slot < kSlots; ++slot) {
      if ((slots & bit(slot)) != 0) ejected_(slot);
    }
  }
}

uint32_t PciHotplug::eject(uint32_t slots) noexcept {
  const std::lock_guard lock(mutex_);
  if (state_.segment != 0) return 0;
  const uint32_t ejected = slots & state_.awaited;
  state_.awaited &= ~ejected;
  state_.removing &= ~ejected;
  return ejected;
}

}  // namespace tsvmm
