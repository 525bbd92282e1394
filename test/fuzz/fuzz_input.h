#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tsvmm::fuzz {

/// The fuzzer's bytes, taken from the front; zeros when there are none left.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  template <typename T>
  requires std::is_trivially_copyable_v<T> T take() {
    T value{};
    const auto bytes = take_bytes(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  /// Up to `size` bytes.
  std::span<const uint8_t> take_bytes(size_t size) {
    const auto front = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(front.size());
    return front;
  }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace tsvmm::fuzz
