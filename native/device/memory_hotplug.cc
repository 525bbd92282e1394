#include "device/memory_hotplug.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint64_t kSelect = 0x0;  ///< MSEL, to be written
constexpr uint64_t kAddressLow = 0x0;
constexpr uint64_t kAddressHigh = 0x4;
constexpr uint64_t kSizeLow = 0x8;
constexpr uint64_t kSizeHigh = 0xc;
constexpr uint64_t kProximity = 0x10;
constexpr uint64_t kStatus = 0x14;

constexpr uint8_t kEnabled = 1U << 0;
constexpr uint8_t kInserting = 1U << 1;  ///< written: acknowledged

constexpr uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
constexpr uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

uint32_t read_register(const MemoryHotplugSlot& slot, uint64_t offset) noexcept {
  switch (offset) {
    case kAddressLow:
      return low(slot.address);
    case kAddressHigh:
      return high(slot.address);
    case kSizeLow:
      return low(slot.size);
    case kSizeHigh:
      return high(slot.size);
    case kProximity:
      return slot.proximity;
    default:
      return 0;
  }
}

uint8_t status_of(const MemoryHotplugSlot& slot) noexcept {
  const unsigned enabled = slot.size != 0 ? kEnabled : 0U;
  const unsigned inserting = slot.inserting ? kInserting : 0U;
  return static_cast<uint8_t>(enabled | inserting);
}

}  // namespace

MemoryHotplug::MemoryHotplug(std::function<void()> notify, const MemoryHotplugState& state)
    : notify_(std::move(notify)), state_(state) {}

MemoryHotplugState MemoryHotplug::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void MemoryHotplug::insert(uint64_t address, uint64_t size, uint32_t proximity) {
  {
    const std::lock_guard lock(mutex_);
    const auto free = std::ranges::find(state_.slots, uint64_t{0}, &MemoryHotplugSlot::size);
    if (free == state_.slots.end()) throw Error("ENOSPC", "all slots for memory are taken");
    *free = {.address = address, .size = size, .proximity = proximity, .inserting = true};
  }
  notify_();
}

/// Whatever a guest has selected; mutex_ is held.
MemoryHotplugSlot* MemoryHotplug::selected() noexcept {
  return state_.selected < state_.slots.size() ? &state_.slots[state_.selected] : nullptr;
}

void MemoryHotplug::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0xff});
  const std::lock_guard lock(mutex_);
  const MemoryHotplugSlot* found = selected();
  const MemoryHotplugSlot slot = found != nullptr ? *found : MemoryHotplugSlot{};
  if (offset == kStatus && data.size() == sizeof(uint8_t)) {
    data[0] = status_of(slot);
  } else if (offset < kStatus && offset % 4 == 0 && data.size() == sizeof(uint32_t)) {
    store(data, read_register(slot, offset));
  }
}

void MemoryHotplug::write(uint64_t offset, std::span<const uint8_t> data) {
  const std::lock_guard lock(mutex_);
  if (offset == kSelect && data.size() == sizeof(uint32_t)) {
    state_.selected = load<uint32_t>(data);
  } else if (offset == kStatus && data.size() == sizeof(uint8_t)) {
    MemoryHotplugSlot* slot = selected();
    if (slot != nullptr && (data[0] & kInserting) != 0) slot->inserting = false;
  }
}

}  // namespace tsvmm
