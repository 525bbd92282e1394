#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/cancellation.h"
#include "core/unique_fd.h"
#include "memory/zone_backing.h"

namespace tsvmm {

using GuestAddress = uint64_t;

struct MemoryRange {
  GuestAddress address;
  uint64_t size;
};

/// One contiguous piece of guest RAM, mapped into this process. What another process may map too is
/// backed by a descriptor and an offset in it.
struct MemoryRegion {
  GuestAddress address = 0;
  uint64_t size = 0;
  int fd = -1;          ///< the backing descriptor, owned by GuestMemory; -1 for anonymous memory
  uint64_t offset = 0;  ///< of the region's first byte in `fd`
  uint8_t* host = nullptr;  ///< where it is mapped here
  uint64_t page_size = 0;   ///< of what backs it: less than this cannot be given back
  bool ram = true;          ///< or else a device's memory
  /// The guest is given it piece by piece by a device, which populates and discards it.
  bool hotplug = false;
  /// Of a file's pages, which what is written does not reach.
  bool copy_on_write = false;
};

/// A part of guest memory with a backing of its own.
struct MemoryZone {
  std::string id = {};
  std::vector<MemoryRange> ranges;  ///< the guest's from the start
  std::optional<MemoryRange> hotplug = std::nullopt;
  MemoryOptions options = {};
  /// What backs it, `hotplug` behind the rest; anonymous memory unless given.
  std::shared_ptr<const UniqueFd> file = nullptr;
};

/// What is behind a region that a device hands out.
struct HotplugBacking {
  GuestAddress address = 0;
  BackingPiece piece = {};  ///< all of it
  MemoryOptions options = {};
  bool is_named = false;  ///< a file of the user's, whose file system can be full
};

/// Hears of regions that come and go while the guest runs (KVM slots, dirty logs, DMA maps, vhost
/// tables). It is called with a lock held that adding and removing listeners takes, so it must do
/// neither.
class MemoryListener {
 public:
  virtual ~MemoryListener() = default;
  /// Throws Error; the region is not added then, and region_removed() is called for the listeners
  /// that had accepted it.
  virtual void region_added(const MemoryRegion& region) = 0;
  virtual void region_removed(const MemoryRegion& region) = 0;
};

class GuestMemory;
class LostPages;

/// Memory of a device, which the guest finds where it maps it and not always. Whoever transfers
/// data reaches it there like RAM. It never touches its bytes itself.
class DeviceMemory {
 public:
  /// Made by GuestMemory::add_device_memory().
  DeviceMemory(GuestMemory& memory, uint8_t* host, uint64_t size, int fd);

  [[nodiscard]] uint64_t size() const { return size_; }
  /// From now on the guest sees the memory at `address`, which is page-aligned and overlaps
  /// nothing, and nowhere else. Throws Error, ENODEV if it was removed; the memory is then hidden.
  void show(GuestAddress address);
  void hide() noexcept;
  /// As GuestMemory::slice. What it returned stays valid after hide(): a transfer that was under
  /// way then ends in the device's memory.
  [[nodiscard]] std::optional<std::span<uint8_t>> slice(GuestAddress address,
                                                        uint64_t length) const noexcept;

 private:
  static constexpr GuestAddress kHidden = ~GuestAddress{0};
  [[nodiscard]] MemoryRegion region_at(GuestAddress address) const;
  [[nodiscard]] std::optional<MemoryRegion> region() const;  ///< while it is shown
  void retract() noexcept;

  GuestMemory& memory_;
  bool removed_ = false;  ///< under the memory's mutex
  uint8_t* const host_;
  const uint64_t size_;
  const int fd_;
  std::atomic<GuestAddress> address_ = kHidden;
  friend class GuestMemory;
};

/// Guest RAM. All access by address goes through here and is checked: an access that leaves RAM,
/// even by a byte or by overflow, fails and touches nothing. The guest may change the bytes at any
/// time, so a value that is validated must first be copied (read<T>), and a span from slice() is
/// only for bulk data that no decision depends on.
///
/// Regions whose guest addresses are adjacent are mapped side by side, so an access may begin in
/// one and end in another. Regions never go, and stay where they are: who reads or writes takes no
/// lock, whatever is added meanwhile.
class GuestMemory {
 public:
  using Range = MemoryRange;

  /// How often add() succeeds.
  static constexpr size_t kMaxAdditions = 8;

  /// All ranges of all zones are page-aligned and disjoint, and those of huge pages aligned to
  /// these. `growth` is where add() puts memory. Throws Error, ECANCELED if that is requested while
  /// pages are made beforehand.
  explicit GuestMemory(std::vector<MemoryZone> zones,
                       const Cancellation& cancellation = Cancellation::never(),
                       std::optional<Range> growth = std::nullopt);
  /// Of one zone.
  GuestMemory(const std::vector<Range>& ranges, const MemoryOptions& options,
              const Cancellation& cancellation = Cancellation::never());
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  /// RAM only, by ascending address; those that are added later come behind. Any thread: who looks
  /// again finds more of them, at the same places.
  [[nodiscard]] std::span<const MemoryRegion> regions() const noexcept {
    return {regions_.get(), region_count_.load(std::memory_order_acquire)};
  }
  /// The region that a device hands out, nullptr if that zone has none.
  [[nodiscard]] const MemoryRegion* hotplug_region(std::string_view zone) const noexcept;
  /// What is behind it.
  [[nodiscard]] std::optional<HotplugBacking> hotplug_backing(std::string_view zone) const noexcept;
  /// Adds `size` bytes, backed as the first zone is, behind what was added before, while the guest
  /// runs. Throws Error, ENOSPC if there is no place left for it; nothing is added then.
  const MemoryRegion& add(uint64_t size, const Cancellation& cancellation = Cancellation::never());

  /// Of zones that are files: what becomes of pages that their files have lost.
  [[nodiscard]] const std::vector<std::unique_ptr<LostPages>>& lost_pages() const noexcept {
    return lost_pages_;
  }

  /// Adds a device's `size` bytes at `host` (backed by `fd` from its start on), hidden for now. The
  /// mapping stays until no transfer is in progress any more, or it is removed. Any
  /// thread, also while the guest runs.
  std::shared_ptr<DeviceMemory> add_device_memory(uint8_t* host, uint64_t size, int fd);
  /// From the return on that memory is not found any more, and nothing of the file is
  /// mapped. Who found it before may hold on to an address in it (of a ring, for one): memory that
  /// is nobody's is there, and the address space is this object's until its end. What may reach the
  /// file itself, such as a disk's transfers under way, has to have come to its end before.
  void remove_device_memory(DeviceMemory& memory) noexcept;
  /// Announces every present region, and every memory of a device that is shown, to `listener` at
  /// once; it must be removed before it goes. Throws what the listener throws, and it is not added
  /// then.
  void add_listener(MemoryListener& listener) const;
  /// No announcements of removal are made for the regions that stay.
  void remove_listener(MemoryListener& listener) const;

  /// The host bytes of [address, address + length), or nullopt unless all of it lies in adjacent
  /// regions, or in one memory of a device. Length 0 is valid anywhere inside a region.
  [[nodiscard]] std::optional<std::span<uint8_t>> slice(GuestAddress address,
                                                        uint64_t length) const noexcept;

  /// Gives the backing of `length` bytes at `host`, which is inside a region, back to the host;
  /// they then read as zeros until they are written. Of pages at the ends, and of anything outside
  /// the region, nothing happens to what was not asked for; nor to private copies of a file's
  /// pages, in whose place the file's would come back. Returns how many bytes went.
  uint64_t discard(const uint8_t* host, uint64_t length) const noexcept;

  [[nodiscard]] bool read(GuestAddress address, std::span<uint8_t> into) const noexcept;
  [[nodiscard]] bool write(GuestAddress address, std::span<const uint8_t> from) const noexcept;

  template <typename T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] std::optional<T> read(GuestAddress address) const noexcept {
    const auto bytes = slice(address, sizeof(T));
    if (!bytes) return std::nullopt;
    T value;
    std::memcpy(&value, bytes->data(), sizeof value);
    return value;
  }

  template <typename T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] bool write(GuestAddress address, const T& value) const noexcept {
    const auto bytes = slice(address, sizeof(T));
    if (!bytes) return false;
    std::memcpy(bytes->data(), &value, sizeof value);
    return true;
  }

 private:
  /// Adjacent regions, and reserved address space behind them where some may be added.
  struct Extent {
    GuestAddress address = 0;
    uint8_t* host = nullptr;
    std::atomic<uint64_t> size = 0;  ///< without what is only reserved
    uint64_t reserved = 0;
  };

  void reserve_extents();
  void map_zone(const MemoryZone& zone, std::vector<MemoryRegion>& regions,
                const Cancellation& cancellation);
  [[nodiscard]] int open_zone(const MemoryZone& zone);
  static void map_region(const MemoryRegion& region, const MemoryOptions& options,
                         const Cancellation& cancellation);
  [[nodiscard]] Extent& extent_of(GuestAddress address) noexcept;
  [[nodiscard]] uint8_t* host_of(GuestAddress address) noexcept;
  void release() noexcept;
  void announce(const MemoryRegion& region) const;
  void retract(const MemoryRegion& region) const noexcept;
  [[nodiscard]] static uint64_t discard_in(const MemoryRegion& region, uint64_t from,
                                           uint64_t to) noexcept;

  std::vector<MemoryZone> zones_;
  const std::optional<Range> growth_;
  std::vector<Extent> extents_;  ///< ascending
  std::unique_ptr<MemoryRegion[]> regions_;
  std::atomic<size_t> region_count_ = 0;
  std::vector<UniqueFd> files_;
  std::vector<std::unique_ptr<LostPages>> lost_pages_;
  mutable std::shared_mutex device_memories_mutex_;  ///< of the list; taken after mutex_
  std::vector<std::shared_ptr<DeviceMemory>> device_memories_;
  std::vector<std::span<uint8_t>> retired_;  ///< where removed ones were
  mutable std::mutex mutex_;                 ///< of listeners, and all that is announced to them
  mutable std::vector<MemoryListener*> listeners_;
  std::mutex adding_;
  uint64_t added_ = 0;  ///< bytes of `growth_`
  size_t additions_ = 0;
  friend class DeviceMemory;
};

}  // namespace tsvmm
