#include "disk/vhdx/block_table.h"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"

namespace tsvmm::vhdx {

BlockTable::BlockTable(Container& container, const Region& region, uint64_t entries)
    : container_(container),
      region_(region),
      present_((entries + kEntriesPerSector - 1) / kEntriesPerSector),
      changed_(present_.size()) {
  changed_list_.reserve(present_.size());
  mapped_ = present_.size() * kSectorSize;
  void* memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw Error::from_errno("making room for a VHDX image's table", errno);
  entries_ = static_cast<uint64_t*>(memory);
}

BlockTable::~BlockTable() { ::munmap(entries_, mapped_); }

int BlockTable::fetch(uint64_t index) noexcept {
  const uint64_t sector = index / kEntriesPerSector;
  if (present_[sector].load(std::memory_order_relaxed) != 0) return 0;
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(entries_) + sector * kSectorSize,
                                 kSectorSize);
  if (const int error = container_.read(file_offset(sector), bytes)) return error;
  present_[sector].store(1, std::memory_order_release);
  return 0;
}

uint64_t BlockTable::get(uint64_t index) const noexcept {
  return std::atomic_ref(entries_[index]).load(std::memory_order_acquire);
}

void BlockTable::set(uint64_t index, uint64_t entry) noexcept {
  std::atomic_ref(entries_[index]).store(entry, std::memory_order_release);
  mark_changed(index / kEntriesPerSector);
}

void BlockTable::mark_changed(uint64_t sector) noexcept {
  if (changed_[sector] != 0) return;
  changed_[sector] = 1;
  changed_list_.push_back(sector);
}

bool BlockTable::take_changed(uint64_t& sector, std::span<uint8_t> bytes) noexcept {
  if (changed_list_.empty()) return false;
  sector = changed_list_.back();
  changed_list_.pop_back();
  changed_[sector] = 0;
  for (uint64_t i = 0; i < kEntriesPerSector; ++i) {
    store(bytes, get(sector * kEntriesPerSector + i), i * sizeof(uint64_t));
  }
  return true;
}

}  // namespace tsvmm::vhdx
