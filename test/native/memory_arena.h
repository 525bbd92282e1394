#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "memory/memory_blocks.h"
#include "memory/reserve.h"

namespace tsvmm::memory_test {

/// Takes all of a range from the guest; false, with the rest of it left, if the host refuses.
inline bool unplug(MemoryBlocks& blocks, uint64_t offset, uint64_t size) {
  while (size != 0) {
    const uint64_t taken = blocks.unplug(offset, size);
    if (taken == 0) return false;
    EXPECT_LE(taken, size);
    offset += taken;
    size -= taken;
  }
  return true;
}

/// A region whose blocks come and go, without the guest memory around it.
class Arena {
 public:
  static constexpr uint64_t kBlock = 2 << 20;
  static constexpr GuestAddress kAddress = 0x140000000;

  explicit Arena(uint64_t blocks, MemoryOptions options = {.thp = false})
      : options_(options), size_(blocks * kBlock), host_(reserve_aligned(size_)) {
    if (!options.shared) return;
    file_.reset(::memfd_create("arena", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(file_.get(), static_cast<off_t>(size_)), 0);
  }
  ~Arena() { ::munmap(host_, size_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] HotplugBacking backing() const {
    return {.address = kAddress,
            .piece = {.host = host_, .size = size_, .fd = file_.get()},
            .options = options_};
  }
  [[nodiscard]] std::unique_ptr<MemoryBlocks> blocks() const {
    return std::make_unique<MemoryBlocks>(backing(), kBlock);
  }

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint8_t* host(size_t block) const { return host_ + block * kBlock; }
  void fill(size_t block, uint8_t value) const { std::fill_n(host(block), kBlock, value); }
  [[nodiscard]] bool is(size_t block, uint8_t value) const {
    const volatile uint8_t* const bytes = host(block);
    return std::all_of(bytes, bytes + kBlock, [value](uint8_t byte) { return byte == value; });
  }
  /// Whether what is written to the one can be read in the other.
  [[nodiscard]] bool same_memory(size_t one, size_t other) const {
    constexpr uint64_t kSomewhere = 4711;
    // A compiler knows that two addresses are not one byte.
    volatile uint8_t& here = host(one)[kSomewhere];
    const volatile uint8_t& there = host(other)[kSomewhere];
    here = static_cast<uint8_t>(here + 1);
    const bool seen = here == there;
    here = static_cast<uint8_t>(here + 1);
    return seen && here == there;
  }
  /// Whether the host has a page behind all of it.
  [[nodiscard]] bool is_resident(size_t block) const {
    std::vector<uint8_t> pages(kBlock / 4096);
    EXPECT_EQ(::mincore(host(block), kBlock, pages.data()), 0);
    return std::ranges::all_of(pages, [](uint8_t page) { return (page & 1) != 0; });
  }
  /// Of the process, for all of it.
  [[nodiscard]] size_t mappings() const {
    const auto begin = reinterpret_cast<uintptr_t>(host_);
    size_t found = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      const uintptr_t address = std::stoull(line, nullptr, 16);
      found += address >= begin && address < begin + size_ ? 1 : 0;
    }
    return found;
  }
  /// Bytes that the file takes.
  [[nodiscard]] uint64_t allocated() const {
    struct stat info {};
    EXPECT_EQ(::fstat(file_.get(), &info), 0);
    return static_cast<uint64_t>(info.st_blocks) * 512;
  }

 private:
  const MemoryOptions options_;
  const uint64_t size_;
  uint8_t* const host_;
  UniqueFd file_;
};

}  // namespace tsvmm::memory_test
