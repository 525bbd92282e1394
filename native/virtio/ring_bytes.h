#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tsvmm {

/// The host's bytes of a ring: in one piece, or, where an IOMMU leads to several, by pages.
class RingBytes {
 public:
  static constexpr size_t kPageSize = 4096;

  RingBytes() = default;
  explicit RingBytes(uint8_t* bytes) : bytes_(bytes) {}
  /// The ring begins `skew` bytes behind the start of the first page.
  RingBytes(std::vector<uint8_t*> pages, size_t skew) : pages_(std::move(pages)), skew_(skew) {}

  /// An aligned field of the ring.
  template <typename T>
  [[nodiscard]] T& at(size_t offset) const noexcept {
    return *reinterpret_cast<T*>(address(offset));
  }

  [[nodiscard]] uint8_t* address(size_t offset) const noexcept {
    if (bytes_ != nullptr) [[likely]] {
      return bytes_ + offset;
    }
    const size_t place = skew_ + offset;
    return pages_[place / kPageSize] + place % kPageSize;
  }

 private:
  uint8_t* bytes_ = nullptr;  ///< nullptr if there are pages
  std::vector<uint8_t*> pages_;
  size_t skew_ = 0;
};

}  // namespace tsvmm
