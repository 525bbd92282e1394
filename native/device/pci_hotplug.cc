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

PciHotplug::PciHotplug(size_t segments, std::function<void()> notify,
                       std::function<void(PciPlace)> ejected, PciHotplugState state)
    : notify_(std::move(notify)), ejected_(std::move(ejected)), state_(std::move(state)) {
  state_.segments.resize(segments);
}

PciHotplugState PciHotplug::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void PciHotplug::insert(PciPlace place) {
  {
    const std::lock_guard lock(mutex_);
    state_.segments.at(place.segment).inserted |= bit(place.slot);
  }
  notify_();
}

void PciHotplug::request_removal(PciPlace place) {
  {
    const std::lock_guard lock(mutex_);
    PciHotplugState::Slots& slots = state_.segments.at(place.segment);
    slots.removing |= bit(place.slot);
    slots.awaited |= bit(place.slot);
  }
  notify_();
}

/// nullptr if the guest has chosen a segment that there is not.
PciHotplugState::Slots* PciHotplug::chosen() noexcept {
  return state_.segment < state_.segments.size() ? &state_.segments[state_.segment] : nullptr;
}

void PciHotplug::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});
  if (data.size() == sizeof(uint32_t)) store(data, read_register(offset));
}

uint32_t PciHotplug::read_register(uint64_t offset) noexcept {
  const std::lock_guard lock(mutex_);
  if (offset == kSegment) return state_.segment;
  PciHotplugState::Slots* const slots = chosen();
  if (slots == nullptr) return 0;
  if (offset == kInserted) return std::exchange(slots->inserted, 0);
  if (offset == kRemoving) return std::exchange(slots->removing, 0);
  return 0;
}

void PciHotplug::write(uint64_t offset, std::span<const uint8_t> data) {
  if (data.size() != sizeof(uint32_t)) return;
  const auto value = load<uint32_t>(data);
  if (offset == kSegment) {
    const std::lock_guard lock(mutex_);
    state_.segment = value;
  } else if (offset == kEject) {
    eject(value);
  }
}

void PciHotplug::eject(uint32_t slots) {
  uint32_t ejected = 0;
  unsigned segment = 0;
  {
    const std::lock_guard lock(mutex_);
    PciHotplugState::Slots* const there = chosen();
    if (there == nullptr) return;
    segment = state_.segment;
    ejected = slots & there->awaited;
    there->awaited &= ~ejected;
    there->removing &= ~ejected;
  }
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    if ((ejected & bit(slot)) != 0) ejected_({segment, slot});
  }
}

}  // namespace tsvmm
