#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "core/cancellation.h"
#include "core/unique_fd.h"

namespace tsvmm {

using GuestAddress = uint64_t;

/// One contiguous piece of guest RAM, mapped into this process. What another process may map too is
/// backed by a descriptor and an offset in it.
struct MemoryRegion {
  GuestAddress address;
  uint64_t size;
  int fd;              ///< the backing descriptor, owned by GuestMemory; -1 for anonymous memory
  uint64_t offset;     ///< of the region's first byte in `fd`
  uint8_t* host;       ///< where it is mapped here
  uint64_t page_size;  ///< of what backs it: less than this cannot be given back
  bool ram = true;     ///< or else a device's memory
};

struct MemoryOptions {
  bool shared = false;
  uint64_t hugepage_size = 0;  ///< bytes, 0 for ordinary pages
  bool prefault = false;
  bool mergeable = false;
  bool thp = true;
  bool reserve = false;
};

/// Hears of regions that come and go while the guest runs (KVM slots, dirty logs, DMA maps, vhost
/// tables).
class MemoryListener {
 public:
  virtual ~MemoryListener() = default;
  virtual void region_added(const MemoryRegion& region) = 0;
  virtual void region_removed(const MemoryRegion& region) = 0;
};

class GuestMemory;

/// Memory of a device, which the guest finds where it maps it and not always. Whoever transfers
/// data reaches it there like RAM. It never touches its bytes itself.
class MemoryWindow {
 public:
  /// Made by GuestMemory::add_window().
  MemoryWindow(GuestMemory& memory, uint8_t* host, uint64_t size, int fd);

  [[nodiscard]] uint64_t size() const { return size_; }
  /// From now on the guest sees the memory at `address`, which is page-aligned and overlaps
  /// nothing, and nowhere else. Calls of show() and hide(), of all windows, are serialized by their
  /// caller. Throws Error; the memory is then hidden.
  void show(GuestAddress address);
  void hide() noexcept;
  /// As GuestMemory::slice. What it returned stays valid after hide(): a transfer that was under
  /// way then ends in the device's memory.
  [[nodiscard]] std::optional<std::span<uint8_t>> slice(GuestAddress address,
                                                        uint64_t length) const noexcept;

 private:
  static constexpr GuestAddress kHidden = ~GuestAddress{0};
  [[nodiscard]] MemoryRegion region(GuestAddress address) const;

  GuestMemory& memory_;
  uint8_t* const host_;
  const uint64_t size_;
  const int fd_;
  std::atomic<GuestAddress> address_ = kHidden;
};

/// Guest RAM. All access by address goes through here and is checked: an access that leaves RAM,
/// even by a byte or by overflow, fails and touches nothing. The guest may change the bytes at any
/// time, so a value that is validated must first be copied (read<T>), and a span from slice() is
/// only for bulk data that nobody decides on.
class GuestMemory {
 public:
  struct Range {
    GuestAddress address;
    uint64_t size;
  };

  /// Ranges are page-aligned, ascending, disjoint. Throws Error, ECANCELED if that is requested
  /// while pages are made beforehand.
  GuestMemory(const std::vector<Range>& ranges, const MemoryOptions& options,
              const Cancellation& cancellation = Cancellation::never());
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  /// RAM only.
  [[nodiscard]] const std::vector<MemoryRegion>& regions() const { return regions_; }
  /// Adds a device's `size` bytes at `host` (backed by `fd` from its start on), hidden for now.
  /// Before the guest runs. The bytes must stay mapped until nobody transfers data any more.
  MemoryWindow& add_window(uint8_t* host, uint64_t size, int fd);
  /// Announces every present region to `listener` at once; it must be removed before it goes.
  void add_listener(MemoryListener& listener);
  /// No announcements of removal are made for the regions that stay.
  void remove_listener(MemoryListener& listener);

  /// The host bytes of [address, address + length), or nullopt unless all of it lies in one region
  /// or window. Length 0 is valid anywhere inside a region.
  [[nodiscard]] std::optional<std::span<uint8_t>> slice(GuestAddress address,
                                                        uint64_t length) const noexcept;

  /// Gives the backing of `length` bytes at `host`, which is inside a region, back to the host;
  /// they then read as zeros until somebody writes. Of pages at the ends, and of anything outside
  /// the region, nothing happens to what was not asked for. Returns how many bytes went.
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

  /// A naturally aligned field shared with the guest (ring indices), or nullptr if outside RAM or
  /// misaligned. Access it through std::atomic_ref only.
  template <typename T>
  [[nodiscard]] T* aligned_pointer(GuestAddress address) const noexcept {
    const auto bytes = slice(address, sizeof(T));
    if (!bytes || reinterpret_cast<uintptr_t>(bytes->data()) % alignof(T) != 0) return nullptr;
    return reinterpret_cast<T*>(bytes->data());
  }

 private:
  std::vector<MemoryRegion> regions_;
  std::vector<UniqueFd> files_;
  std::vector<MemoryListener*> listeners_;
  std::vector<std::unique_ptr<MemoryWindow>> windows_;
  friend class MemoryWindow;
};

}  // namespace tsvmm
