#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tsvmm {

/// Loads the `T` at `bytes[offset]`; the caller has checked the length. Guest formats are
/// little-endian, as are all hosts we build for.
template <typename T>
requires std::is_trivially_copyable_v<T>
[[nodiscard]] T load(std::span<const uint8_t> bytes, size_t offset = 0) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// Stores `value` at `bytes[offset]`; the caller has checked the length.
template <typename T>
requires std::is_trivially_copyable_v<T>
void store(std::span<uint8_t> bytes, const T& value, size_t offset = 0) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

/// The bytes of a 1- to 8-byte access as a zero-extended integer (longer ones give their first 8
/// bytes).
[[nodiscard]] inline uint64_t load_uint(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), bytes.size() < sizeof value ? bytes.size() : sizeof value);
  return value;
}

/// Fills a 1- to 8-byte access with the low bytes of `value` (longer ones: zeros after the first
/// 8).
inline void store_uint(std::span<uint8_t> bytes, uint64_t value) {
  if (bytes.size() > sizeof value) std::memset(bytes.data(), 0, bytes.size());
  std::memcpy(bytes.data(), &value, bytes.size() < sizeof value ? bytes.size() : sizeof value);
}

}  // namespace tsvmm
