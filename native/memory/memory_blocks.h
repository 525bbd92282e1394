#pragma once

#include <cstdint>
#include <functional>

#include "core/unique_fd.h"
#include "memory/guest_memory.h"

namespace tsvmm {

/// What is mapped behind a region of guest memory of which the guest has only some blocks at a
/// time.
///
/// The whole region is mapped at all times, so that neither the hypervisor nor a device ever meets
/// an address with nothing behind it, whatever the guest names. Blocks that the guest does not have
/// hold nothing of the host's: a few pages of a file of their own stand behind all of them, over
/// and over (`filler`). They can be read and written like any others, lose what is written whenever
/// it suits, and are at most a thousandth of the region, so a guest cannot get hold of memory that
/// it was not given.
///
/// One thread at a time changes blocks; all others may access the region meanwhile.
class MemoryBlocks {
 public:
  /// The guest has none of the blocks. `block_size` is a power of two, a multiple of the zone's
  /// page size, and the region of it. The region's owner, who has it mapped, outlives this. Throws
  /// Error.
  MemoryBlocks(const HotplugBacking& backing, uint64_t block_size);

  [[nodiscard]] GuestAddress address() const noexcept { return backing_.address; }
  [[nodiscard]] uint64_t size() const noexcept { return backing_.piece.size; }
  [[nodiscard]] uint64_t block_size() const noexcept { return block_size_; }
  /// The most that all blocks that the guest does not have may cost the host.
  [[nodiscard]] uint64_t filler_size() const noexcept { return filler_size_; }

  /// Asked from time to time by what may take long, a quarter of a second for each GiB.
  using Stop = std::function<bool()>;
  static bool never() { return false; }

  /// Puts memory behind [offset, offset + size): whole blocks of the region that the guest does not
  /// have. False if the host does not have it now, or `stop` said so: the guest has nothing more
  /// then, and release() is to be called unless is_released().
  [[nodiscard]] bool plug(uint64_t offset, uint64_t size, const Stop& stop = never) noexcept;
  /// Takes the front of such a range, which the guest has, away from it, and gives its memory back
  /// to the host. Returns how much that was: whole blocks, no more than takes a fraction of a
  /// second. 0 if the process has no mapping left for it; the guest then has all that it had.
  [[nodiscard]] uint64_t unplug(uint64_t offset, uint64_t size) noexcept;
  /// Whether the last plug() left nothing to give back. If it did, the next one begins with that.
  [[nodiscard]] bool is_released() const noexcept {
    return unfilled_.size == 0 && unreleased_.size == 0;
  }
  /// Gives that back: a part at least, and then the rest unless `stop` says so, or the process has
  /// no mapping left for it. is_released().
  [[nodiscard]] bool release(const Stop& stop = never) noexcept;

 private:
  class Scratch;
  struct Range {
    void drop_front(uint64_t bytes) noexcept {
      offset += bytes;
      size -= bytes;
    }

    uint64_t offset = 0;
    uint64_t size = 0;
  };

  [[nodiscard]] BackingPiece piece(uint64_t offset, uint64_t size) const noexcept;
  [[nodiscard]] bool is_file() const noexcept;
  [[nodiscard]] bool plug_file(uint64_t offset, uint64_t size, const Stop& stop);
  [[nodiscard]] bool plug_private(uint64_t offset, uint64_t size, const Stop& stop);
  [[nodiscard]] bool reaches(uint64_t end) const noexcept;
  [[nodiscard]] bool allocate(uint64_t offset, uint64_t size, const Stop& stop) noexcept;
  [[nodiscard]] bool fill() noexcept;
  [[nodiscard]] uint64_t map_filler_front(uint64_t offset, uint64_t size) noexcept;
  void punch(uint64_t offset, uint64_t size) noexcept;

  const HotplugBacking backing_;
  const uint64_t block_size_;
  const uint64_t step_;  ///< what is done at a time, in bytes: whole blocks
  const uint64_t filler_size_;
  const UniqueFd filler_;
  Range unfilled_;    ///< the guest does not have it, and the filler is not behind all of it
  Range unreleased_;  ///< of the file: the guest has it no more, the host not yet
};

}  // namespace tsvmm
