#pragma once

#include <cstdint>
#include <optional>

#include "core/cancellation.h"
#include "core/unique_fd.h"

namespace tsvmm {

struct MemoryOptions {
  bool shared = false;
  uint64_t hugepage_size = 0;  ///< bytes, 0 for ordinary pages
  bool prefault = false;
  bool mergeable = false;
  bool thp = true;
  bool reserve = false;
  std::optional<uint32_t> host_node = std::nullopt;  ///< NUMA node of the host
};

/// Whether the backing is a file, which other processes can map too.
[[nodiscard]] bool needs_descriptor(const MemoryOptions& options) noexcept;

/// Of what backs it: less than this cannot be given back.
[[nodiscard]] uint64_t page_size_of(const MemoryOptions& options) noexcept;

/// A file of `size` bytes in memory. Throws Error.
[[nodiscard]] UniqueFd create_backing(uint64_t size, const MemoryOptions& options);

/// Whether a file of the user's can back `size` bytes. Throws Error.
void check_backing(int fd, uint64_t size, const MemoryOptions& options);

/// A piece of a zone's backing, and where it is to be.
struct BackingPiece {
  uint8_t* host = nullptr;  ///< reserved address space
  uint64_t size = 0;
  int fd = -1;                 ///< -1: anonymous memory
  bool copy_on_write = false;  ///< what is written does not reach the file
  uint64_t offset = 0;
  uint64_t small_pages = 0;  ///< bytes at the beginning that get no transparent huge pages
  /// It is not used before somebody says so, and huge pages are not set aside for it either.
  bool later = false;
};

/// Maps it, with all the advice that goes with it. Throws Error; it is not known then what is
/// mapped there, if anything is: the caller puts something else in its place.
void map_backing(const BackingPiece& piece, const MemoryOptions& options);

/// What is there goes: the address space is only reserved again.
void unmap_backing(const BackingPiece& piece) noexcept;

/// Makes the pages of mapped memory. Kernels before 5.14 lack this, and their guests take their
/// pages one by one. Throws Error, ECANCELED if that is requested.
void populate(const BackingPiece& piece, const MemoryOptions& options,
              const Cancellation& cancellation);

}  // namespace tsvmm
