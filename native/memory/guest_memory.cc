#include "memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "memory/lost_pages.h"
#include "memory/page_size.h"
#include "memory/reserve.h"

namespace tsvmm {
namespace {

/// A range of the address space, and what is wanted of it.
struct Wanted {
  MemoryRange range;
  uint64_t page_size;
  bool later;  ///< only reserved
};

void check(const Wanted& wanted) {
  const auto& [range, page_size, later] = wanted;
  const bool fits = range.size != 0 && range.address + range.size > range.address;
  const bool aligned = std::has_single_bit(page_size) && range.address % page_size == 0 &&
                       range.size % page_size == 0;
  if (!fits || !aligned) {
    throw Error("EINVAL", "guest memory at " + std::to_string(range.address) + " of " +
                              std::to_string(range.size) + " bytes is no whole number of pages");
  }
}

std::vector<Wanted> ranges_of(const std::vector<MemoryZone>& zones,
                              const std::optional<MemoryRange>& growth) {
  std::vector<Wanted> all;
  for (const MemoryZone& zone : zones) {
    const uint64_t page_size = page_size_of(zone.options);
    for (const MemoryRange& range : zone.ranges) all.push_back({range, page_size, false});
    if (zone.hotplug) all.push_back({*zone.hotplug, page_size, false});
  }
  if (growth) all.push_back({*growth, page_size_of(zones.front().options), true});
  std::ranges::for_each(all, check);
  std::ranges::sort(all, {}, [](const Wanted& wanted) { return wanted.range.address; });
  for (size_t i = 1; i < all.size(); ++i) {
    const MemoryRange& before = all[i - 1].range;
    if (all[i].range.address - before.address < before.size) {
      throw Error("EINVAL", "two regions of guest memory overlap");
    }
  }
  return all;
}

/// Takes a file's mapping away for memory that is in no file of anybody's, of which there is only
/// what is written. Where the host cannot do that the mapping stays: its address must not be
/// nothing's.
void map_nobodys(uint8_t* host, uint64_t size) noexcept {
  const UniqueFd file(::memfd_create("retired", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return;
  constexpr int kFlags = MAP_FIXED | MAP_SHARED | MAP_NORESERVE;
  if (::mmap(host, size, PROT_READ | PROT_WRITE, kFlags, file.get(), 0) == MAP_FAILED) return;
  ::madvise(host, size, MADV_DONTDUMP);
}

/// The boot data of the first two megabytes is a few small pages, which take less time than
/// clearing a huge one.
uint64_t small_pages_of(const MemoryRegion& region) {
  return region.address == 0 ? std::min(kHostHugePageSize, region.size) : 0;
}

}  // namespace

GuestMemory::GuestMemory(const std::vector<Range>& ranges, const MemoryOptions& options,
                         const Cancellation& cancellation)
    : GuestMemory({{.ranges = ranges, .options = options}}, cancellation) {}

GuestMemory::GuestMemory(std::vector<MemoryZone> zones, const Cancellation& cancellation,
                         std::optional<Range> growth)
    : zones_(std::move(zones)), growth_(growth) {
  if (zones_.empty()) throw Error("EINVAL", "a machine needs memory");
  try {
    reserve_extents();
    std::vector<MemoryRegion> regions;
    for (const MemoryZone& zone : zones_) map_zone(zone, regions, cancellation);
    std::ranges::sort(regions, {}, &MemoryRegion::address);
    regions_ = std::make_unique<MemoryRegion[]>(regions.size() + kMaxAdditions);
    std::ranges::copy(regions, regions_.get());
    region_count_ = regions.size();
  } catch (...) {
    release();
    throw;
  }
}

GuestMemory::~GuestMemory() {
  for (const MemoryRegion& region : regions()) retract(region);
  release();
}

void GuestMemory::release() noexcept {
  lost_pages_.clear();
  for (const Extent& extent : extents_) {
    if (extent.host != nullptr) ::munmap(extent.host, extent.reserved);
  }
  for (const auto& bytes : retired_) ::munmap(bytes.data(), bytes.size());
}

void GuestMemory::reserve_extents() {
  struct Plan {
    GuestAddress address;
    uint64_t size;
    uint64_t reserved;
    uint64_t alignment;
  };
  std::vector<Plan> plans;
  for (const auto& [range, page_size, later] : ranges_of(zones_, growth_)) {
    const uint64_t size = later ? 0 : range.size;
    Plan* last = plans.empty() ? nullptr : &plans.back();
    // Nothing may follow what is only reserved: there would be a hole.
    if (last != nullptr && last->address + last->size == range.address &&
        last->size == last->reserved) {
      last->size += size;
      last->reserved += range.size;
      last->alignment = std::max(last->alignment, page_size);
    } else {
      plans.push_back({range.address, size, range.size, std::max(page_size, kHostHugePageSize)});
    }
  }
  extents_ = std::vector<Extent>(plans.size());
  for (size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    Extent& extent = extents_[i];
    // A huge page of the guest's can then be one of the host's.
    const uint64_t lead = plan.address % plan.alignment;
    extent.address = plan.address;
    extent.host = reserve_aligned(plan.reserved, plan.alignment, lead);
    extent.size = plan.size;
    extent.reserved = plan.reserved;
  }
}

void GuestMemory::map_zone(const MemoryZone& zone, std::vector<MemoryRegion>& regions,
                           const Cancellation& cancellation) {
  const int fd = open_zone(zone);
  uint64_t offset = 0;
  const auto place = [&](const Range& range, bool hotplug) {
    const bool copy_on_write = zone.file && !zone.options.shared;
    MemoryRegion region{.address = range.address,
                        .size = range.size,
                        .fd = fd,
                        .offset = offset,
                        .host = host_of(range.address),
                        .page_size = page_size_of(zone.options),
                        .hotplug = hotplug,
                        .copy_on_write = copy_on_write};
    map_region(region, zone.options, cancellation);
    if (zone.file) {
      const auto holes =
          copy_on_write || hotplug ? LostPages::Holes::kOneByOne : LostPages::Holes::kAtOnce;
      lost_pages_.push_back(
          std::make_unique<LostPages>(region.host, region.size, fd, offset, holes));
    }
    // What the guest writes there is in no file.
    if (copy_on_write) region.fd = -1;
    regions.push_back(region);
    offset += range.size;
  };
  for (const Range& range : zone.ranges) place(range, false);
  if (zone.hotplug) place(*zone.hotplug, true);
}

/// The file that backs the zone, -1 for memory that nobody else maps.
int GuestMemory::open_zone(const MemoryZone& zone) {
  uint64_t size = zone.hotplug ? zone.hotplug->size : 0;
  for (const Range& range : zone.ranges) size += range.size;
  if (zone.file) {
    check_backing(zone.file->get(), size, zone.options);
    return zone.file->get();
  }
  if (size == 0 || !needs_descriptor(zone.options)) return -1;
  files_.push_back(create_backing(size, zone.options));
  return files_.back().get();
}

void GuestMemory::map_region(const MemoryRegion& region, const MemoryOptions& options,
                             const Cancellation& cancellation) {
  const BackingPiece piece{.host = region.host,
                           .size = region.size,
                           .fd = region.fd,
                           .copy_on_write = region.copy_on_write,
                           .offset = region.offset,
                           .small_pages = small_pages_of(region),
                           .later = region.hotplug};
  try {
    map_backing(piece, options);
    if (!options.prefault || region.hotplug) return;
    // After all advice, so that huge pages are what it takes.
    populate(piece, options, cancellation);
  } catch (...) {
    unmap_backing(piece);
    throw;
  }
}

uint8_t* GuestMemory::host_of(GuestAddress address) noexcept {
  const Extent& extent = extent_of(address);
  return extent.host + (address - extent.address);
}

/// The one that has it reserved.
GuestMemory::Extent& GuestMemory::extent_of(GuestAddress address) noexcept {
  return *std::ranges::find_if(extents_, [address](const Extent& extent) {
    return address >= extent.address && address - extent.address < extent.reserved;
  });
}

const MemoryRegion* GuestMemory::hotplug_region(std::string_view zone) const noexcept {
  const auto found = std::ranges::find(zones_, zone, &MemoryZone::id);
  if (found == zones_.end() || !found->hotplug) return nullptr;
  const auto all = regions();
  return &*std::ranges::find(all, found->hotplug->address, &MemoryRegion::address);
}

std::optional<HotplugBacking> GuestMemory::hotplug_backing(std::string_view zone) const noexcept {
  const MemoryRegion* region = hotplug_region(zone);
  if (region == nullptr) return std::nullopt;
  const MemoryZone& owner = *std::ranges::find(zones_, zone, &MemoryZone::id);
  const bool copy_on_write = region->copy_on_write;
  const BackingPiece piece{.host = region->host,
                           .size = region->size,
                           .fd = copy_on_write ? owner.file->get() : region->fd,
                           .copy_on_write = copy_on_write,
                           .offset = region->offset};
  return HotplugBacking{.address = region->address,
                        .piece = piece,
                        .options = owner.options,
                        .is_named = owner.file != nullptr};
}

const MemoryRegion& GuestMemory::add(uint64_t size, const Cancellation& cancellation) {
  const std::lock_guard adding(adding_);
  const MemoryOptions& options = zones_.front().options;
  const uint64_t page_size = page_size_of(options);
  if (size == 0 || size % page_size != 0) {
    throw Error("EINVAL", "added memory must be a whole number of pages");
  }
  if (!growth_ || additions_ == kMaxAdditions || size > growth_->size - added_) {
    throw Error("ENOSPC", "there is no place for more guest memory");
  }
  files_.reserve(files_.size() + 1);
  UniqueFd file;
  if (needs_descriptor(options)) file = create_backing(size, options);
  const GuestAddress address = growth_->address + added_;
  const MemoryRegion region{.address = address,
                            .size = size,
                            .fd = file.get(),
                            .host = host_of(address),
                            .page_size = page_size};
  map_region(region, options, cancellation);
  const std::lock_guard lock(mutex_);
  try {
    announce(region);
  } catch (...) {
    unmap_backing({.host = region.host, .size = size});
    throw;
  }
  if (file.valid()) files_.push_back(std::move(file));
  const size_t count = region_count_.load(std::memory_order_relaxed);
  regions_[count] = region;
  added_ += size;
  ++additions_;
  region_count_.store(count + 1, std::memory_order_release);
  extent_of(address).size.fetch_add(size, std::memory_order_release);
  return regions_[count];
}

void GuestMemory::add_listener(MemoryListener& listener) const {
  const std::lock_guard lock(mutex_);
  listeners_.reserve(listeners_.size() + 1);
  for (const MemoryRegion& region : regions()) listener.region_added(region);
  const std::shared_lock device_memories_lock(device_memories_mutex_);
  for (const auto& memory : device_memories_) {
    if (const auto shown = memory->region()) listener.region_added(*shown);
  }
  listeners_.push_back(&listener);
}

void GuestMemory::remove_listener(MemoryListener& listener) const {
  const std::lock_guard lock(mutex_);
  std::erase(listeners_, &listener);
}

void GuestMemory::announce(const MemoryRegion& region) const {
  size_t told = 0;
  try {
    for (; told < listeners_.size(); ++told) listeners_[told]->region_added(region);
  } catch (...) {
    while (told > 0) listeners_[--told]->region_removed(region);
    throw;
  }
}

void GuestMemory::retract(const MemoryRegion& region) const noexcept {
  for (MemoryListener* listener : listeners_) listener->region_removed(region);
}

std::optional<std::span<uint8_t>> GuestMemory::slice(GuestAddress address,
                                                     uint64_t length) const noexcept {
  for (const Extent& extent : extents_) {
    if (address < extent.address) break;
    const uint64_t offset = address - extent.address;
    const uint64_t size = extent.size.load(std::memory_order_acquire);
    if (offset >= size) continue;
    if (length > size - offset) return std::nullopt;
    return std::span<uint8_t>(extent.host + offset, length);
  }
  const std::shared_lock lock(device_memories_mutex_);
  for (const auto& memory : device_memories_) {
    if (const auto bytes = memory->slice(address, length)) return bytes;
  }
  return std::nullopt;
}

std::shared_ptr<DeviceMemory> GuestMemory::add_device_memory(uint8_t* host, uint64_t size, int fd) {
  auto added = std::make_shared<DeviceMemory>(*this, host, size, fd);
  const std::lock_guard lock(device_memories_mutex_);
  retired_.reserve(retired_.size() + device_memories_.size() + 1);
  device_memories_.push_back(added);
  return added;
}

void GuestMemory::remove_device_memory(DeviceMemory& memory) noexcept {
  {
    const std::lock_guard lock(mutex_);
    memory.retract();
    memory.removed_ = true;
  }
  const std::lock_guard lock(device_memories_mutex_);
  std::erase_if(device_memories_, [&](const auto& one) { return one.get() == &memory; });
  map_nobodys(memory.host_, memory.size_);
  retired_.emplace_back(memory.host_, memory.size_);
}

DeviceMemory::DeviceMemory(GuestMemory& memory, uint8_t* host, uint64_t size, int fd)
    : memory_(memory), host_(host), size_(size), fd_(fd) {}

MemoryRegion DeviceMemory::region_at(GuestAddress address) const {
  return {.address = address,
          .size = size_,
          .fd = fd_,
          .offset = 0,
          .host = host_,
          .page_size = kHostPageSize,
          .ram = false};
}

std::optional<MemoryRegion> DeviceMemory::region() const {
  const GuestAddress address = address_.load(std::memory_order_acquire);
  if (address == kHidden) return std::nullopt;
  return region_at(address);
}

void DeviceMemory::show(GuestAddress address) {
  const std::lock_guard lock(memory_.mutex_);
  retract();
  if (removed_) throw Error("ENODEV", "the memory is gone");
  memory_.announce(region_at(address));
  address_.store(address, std::memory_order_release);
}

void DeviceMemory::hide() noexcept {
  const std::lock_guard lock(memory_.mutex_);
  retract();
}

void DeviceMemory::retract() noexcept {
  const GuestAddress address = address_.exchange(kHidden, std::memory_order_acq_rel);
  if (address != kHidden) memory_.retract(region_at(address));
}

std::optional<std::span<uint8_t>> DeviceMemory::slice(GuestAddress address,
                                                      uint64_t length) const noexcept {
  const GuestAddress begin = address_.load(std::memory_order_acquire);
  if (begin == kHidden || address < begin || address - begin >= size_) return std::nullopt;
  const uint64_t offset = address - begin;
  if (length > size_ - offset) return std::nullopt;
  return std::span<uint8_t>(host_ + offset, length);
}

uint64_t GuestMemory::discard(const uint8_t* host, uint64_t length) const noexcept {
  const uint8_t* const end = host + length;
  uint64_t freed = 0;
  for (const MemoryRegion& region : regions()) {
    const uint8_t* const from = std::max<const uint8_t*>(host, region.host);
    const uint8_t* const to = std::min<const uint8_t*>(end, region.host + region.size);
    if (from < to) {
      freed += discard_in(region, static_cast<uint64_t>(from - region.host),
                          static_cast<uint64_t>(to - region.host));
    }
  }
  return freed;
}

/// From `from` to `to` in the region.
uint64_t GuestMemory::discard_in(const MemoryRegion& region, uint64_t from, uint64_t to) noexcept {
  if (region.copy_on_write) return 0;
  const uint64_t mask = region.page_size - 1;
  const uint64_t begin = (from + mask) & ~mask;
  const uint64_t end = to & ~mask;
  if (begin >= end) return 0;
  const uint64_t size = end - begin;
  // A hole in the file unmaps its pages from every process. Anonymous memory has only our mapping.
  const int result =
      region.fd >= 0
          ? ::fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(region.offset + begin), static_cast<off_t>(size))
          : ::madvise(region.host + begin, size, MADV_DONTNEED);
  return result == 0 ? size : 0;
}

bool GuestMemory::read(GuestAddress address, std::span<uint8_t> into) const noexcept {
  const auto bytes = slice(address, into.size());
  if (!bytes) return false;
  std::memcpy(into.data(), bytes->data(), into.size());
  return true;
}

bool GuestMemory::write(GuestAddress address, std::span<const uint8_t> from) const noexcept {
  const auto bytes = slice(address, from.size());
  if (!bytes) return false;
  std::memcpy(bytes->data(), from.data(), from.size());
  return true;
}

}  // namespace tsvmm
