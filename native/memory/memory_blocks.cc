#include "memory/memory_blocks.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>

#include "core/error.h"
#include "memory/reserve.h"

namespace tsvmm {
namespace {

/// In how many pieces the filler covers a region at most: each costs the host a mapping, of which a
/// process can have 65,530 unless its administrator says otherwise.
constexpr uint64_t kFillerPieces = 1024;
/// What is allocated or given back at a time, if blocks are not larger: a fraction of a second.
constexpr uint64_t kStep = 64U << 20;

UniqueFd make_filler(uint64_t size) {
  UniqueFd file(check_errno(::memfd_create("guest-ram-unplugged", MFD_CLOEXEC),
                            "memfd_create for memory that is not plugged in"));
  check_errno(::ftruncate(file.get(), static_cast<off_t>(size)),
              "sizing memory that is not plugged in");
  return file;
}

uint64_t checked(uint64_t block_size, const HotplugBacking& backing) {
  if (std::has_single_bit(block_size) && block_size % page_size_of(backing.options) == 0 &&
      backing.piece.size % block_size == 0 && backing.address % block_size == 0) {
    return block_size;
  }
  throw Error("EINVAL", "a region of " + std::to_string(backing.piece.size) +
                            " bytes cannot be handed out in blocks of " +
                            std::to_string(block_size) + " bytes");
}

uint64_t filler_size_for(uint64_t region, uint64_t block) {
  return std::max(block, std::bit_ceil((region + kFillerPieces - 1) / kFillerPieces));
}

/// Calls `work` with pieces of [offset, offset + size) until it fails or is to stop.
template <typename Work>
bool in_steps(uint64_t offset, uint64_t size, uint64_t step, const std::function<bool()>& stop,
              const Work& work) {
  for (uint64_t done = 0; done < size; done += step) {
    if (stop() || !work(offset + done, std::min(step, size - done))) return false;
  }
  return true;
}

}  // namespace

/// Address space where a mapping is prepared.
class MemoryBlocks::Scratch {
 public:
  Scratch(uint64_t size, uint64_t alignment)
      : host_(reserve_aligned(size, alignment)), size_(size) {}
  ~Scratch() {
    if (host_ != nullptr) ::munmap(host_, size_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] uint8_t* host() const noexcept { return host_; }
  /// What is mapped there takes the place of what is mapped at `to`.
  [[nodiscard]] bool move_to(uint8_t* to) noexcept {
    if (::mremap(host_, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
      return false;
    }
    host_ = nullptr;
    return true;
  }

 private:
  uint8_t* host_;
  const uint64_t size_;
};

MemoryBlocks::MemoryBlocks(const HotplugBacking& backing, uint64_t block_size)
    : backing_(backing),
      block_size_(checked(block_size, backing)),
      step_(std::max(kStep, block_size)),
      filler_size_(filler_size_for(backing.piece.size, block_size)),
      filler_(make_filler(filler_size_)),
      unfilled_{.offset = 0, .size = size()} {
  if (!fill()) {
    throw Error::from_errno("mapping memory that is not plugged in", errno);
  }
}

BackingPiece MemoryBlocks::piece(uint64_t offset, uint64_t size) const noexcept {
  BackingPiece part = backing_.piece;
  part.host += offset;
  part.size = size;
  if (part.fd >= 0) part.offset += offset;
  // A file's huge pages are there already: nothing is to be set aside for its mapping.
  part.later = is_file();
  return part;
}

/// What is written is in a file.
bool MemoryBlocks::is_file() const noexcept {
  return backing_.piece.fd >= 0 && !backing_.piece.copy_on_write;
}

bool MemoryBlocks::plug(uint64_t offset, uint64_t size, const Stop& stop) noexcept {
  if (!release(stop)) return false;
  try {
    if (is_file() ? plug_file(offset, size, stop) : plug_private(offset, size, stop)) return true;
  } catch (const Error&) {
    // Why the host lacks it is the same to the guest.
  }
  unfilled_ = {.offset = offset, .size = size};
  if (is_file()) unreleased_ = unfilled_;
  (void)release(stop);
  return false;
}

/// A guest must not find out by a bus error of ours that the host has no huge page, or no room in a
/// file system, for what it was given. So the file gets its pages before anybody has an address to
/// reach them by.
bool MemoryBlocks::plug_file(uint64_t offset, uint64_t size, const Stop& stop) {
  const MemoryOptions& options = backing_.options;
  if (backing_.is_named && !reaches(offset + size)) return false;
  const bool beforehand = options.hugepage_size != 0 || backing_.is_named || options.prefault;
  if (beforehand && !allocate(offset, size, stop)) return false;
  map_backing(piece(offset, size), options);
  return true;
}

/// What can fail is done elsewhere, so that there is no moment without any mapping. But pages are
/// made in place: the kernel takes only a mapping that has none yet for a part of its neighbour,
/// and one for each of a guest's requests would be too many for the process.
bool MemoryBlocks::plug_private(uint64_t offset, uint64_t size, const Stop& stop) {
  const MemoryOptions& options = backing_.options;
  const uint64_t page_size = page_size_of(options);
  Scratch scratch(size, std::max(page_size, block_size_));
  BackingPiece part = piece(offset, size);
  part.host = scratch.host();
  map_backing(part, options);
  if (!scratch.move_to(backing_.piece.host + offset)) return false;
  const auto make_pages = [&](uint64_t at, uint64_t length) {
    populate(piece(at, length), options, Cancellation::never());
    return true;
  };
  return !options.prefault || in_steps(offset, size, step_, stop, make_pages);
}

/// Room may be had behind the end of a file that somebody has made shorter, and nobody can use it.
bool MemoryBlocks::reaches(uint64_t end) const noexcept {
  struct stat status {};
  return ::fstat(backing_.piece.fd, &status) == 0 &&
         static_cast<uint64_t>(status.st_size) >= backing_.piece.offset + end;
}

bool MemoryBlocks::allocate(uint64_t offset, uint64_t size, const Stop& stop) noexcept {
  const BackingPiece& whole = backing_.piece;
  const auto work = [&](uint64_t at, uint64_t length) {
    int result;
    do {
      result = ::fallocate(whole.fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(whole.offset + at),
                           static_cast<off_t>(length));
    } while (result != 0 && errno == EINTR);
    // A file system that cannot promise room gets its pages one by one.
    return result == 0 || errno == EOPNOTSUPP;
  };
  return in_steps(offset, size, step_, stop, work);
}

uint64_t MemoryBlocks::unplug(uint64_t offset, uint64_t size) noexcept {
  const uint64_t taken = map_filler_front(offset, size);
  // What is in no file went with its mapping.
  if (taken != 0 && is_file()) punch(offset, taken);
  return taken;
}

bool MemoryBlocks::release(const Stop& stop) noexcept {
  // What the guest can still reach it would put pages into again.
  if (!fill()) return false;
  for (bool begun = false; unreleased_.size != 0; begun = true) {
    if (begun && stop()) return false;
    const uint64_t size = std::min(step_, unreleased_.size);
    punch(unreleased_.offset, size);
    unreleased_.drop_front(size);
  }
  return true;
}

void MemoryBlocks::punch(uint64_t offset, uint64_t size) noexcept {
  (void)::fallocate(backing_.piece.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(backing_.piece.offset + offset), static_cast<off_t>(size));
}

/// False if the process has no mapping left for all of it.
bool MemoryBlocks::fill() noexcept {
  while (unfilled_.size != 0) {
    const uint64_t mapped = map_filler_front(unfilled_.offset, unfilled_.size);
    if (mapped == 0) return false;
    unfilled_.drop_front(mapped);
  }
  return true;
}

/// One mapping, of whole blocks; returns their size, or 0 if there cannot be one.
uint64_t MemoryBlocks::map_filler_front(uint64_t offset, uint64_t size) noexcept {
  constexpr int kFlags = MAP_FIXED | MAP_SHARED | MAP_NORESERVE;
  // Each offset has its own place in the filler, so that neighbours become one mapping again.
  const uint64_t from = offset % filler_size_;
  const uint64_t part = std::min({size, filler_size_ - from, step_});
  uint8_t* host = backing_.piece.host + offset;
  if (::mmap(host, part, PROT_READ | PROT_WRITE, kFlags, filler_.get(), static_cast<off_t>(from)) ==
      MAP_FAILED) {
    return 0;
  }
  ::madvise(host, part, MADV_DONTDUMP);
  return part;
}

}  // namespace tsvmm
