#include "bus/address_space.h"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace tsvmm {

bool AddressSpace::map(uint64_t base, uint64_t size, std::shared_ptr<BusDevice> device) {
  if (size == 0 || base + (size - 1) < base) return false;
  const std::unique_lock lock(mutex_);
  const auto next = std::ranges::lower_bound(ranges_, base, {}, &Range::base);
  if (next != ranges_.end() && next->base - base < size) return false;
  if (next != ranges_.begin()) {
    const Range& previous = *std::prev(next);
    if (base - previous.base < previous.size) return false;
  }
  ranges_.insert(next, Range{base, size, std::move(device)});
  return true;
}

void AddressSpace::unmap(uint64_t base) {
  const std::unique_lock lock(mutex_);
  std::erase_if(ranges_, [base](const Range& range) { return range.base == base; });
}

AddressSpace::Hit AddressSpace::find(uint64_t address) const {
  const std::shared_lock lock(mutex_);
  auto above = std::ranges::upper_bound(ranges_, address, {}, &Range::base);
  if (above == ranges_.begin()) return {nullptr, 0};
  const Range& range = *--above;
  const uint64_t offset = address - range.base;
  if (offset >= range.size) return {nullptr, 0};
  // A copy of the pointer keeps the device alive without the lock, under which a handler that
  // remaps would deadlock.
  return {range.device, offset};
}

void AddressSpace::read(uint64_t address, std::span<uint8_t> data) const {
  const Hit hit = find(address);
  if (hit.device) {
    hit.device->read(hit.offset, data);
  } else {
    std::memset(data.data(), 0xff, data.size());
  }
}

void AddressSpace::write(uint64_t address, std::span<const uint8_t> data) const {
  const Hit hit = find(address);
  if (hit.device) hit.device->write(hit.offset, data);
}

}  // namespace tsvmm
