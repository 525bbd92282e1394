#include "memory/reserve.h"

#include <sys/mman.h>

#include <cerrno>

#include "core/error.h"

namespace tsvmm {

uint8_t* reserve_aligned(uint64_t size, uint64_t alignment, uint64_t lead) {
  const uint64_t length = size + alignment;
  if (length < size) throw Error("ENOMEM", "the memory is too large");
  void* reserved =
      ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) throw Error::from_errno("reserving address space", errno);
  auto* begin = static_cast<uint8_t*>(reserved);
  const uint64_t offset = (lead - reinterpret_cast<uintptr_t>(begin)) & (alignment - 1);
  uint8_t* aligned = begin + offset;
  uint8_t* end = begin + length;
  uint8_t* aligned_end = aligned + size;
  if (aligned > begin) ::munmap(begin, static_cast<size_t>(aligned - begin));
  if (end > aligned_end) ::munmap(aligned_end, static_cast<size_t>(end - aligned_end));
  return aligned;
}

}  // namespace tsvmm
