#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tsvmm {

// What crosses the boundary is a deterministic subset of CBOR (RFC 8949): lengths are definite,
// heads have their shortest form, keys of maps are text. There are integers, byte strings, text,
// arrays, maps, booleans, null, and descriptors, as indexes into a table that travels beside the
// bytes. Nothing else.

/// Before the index of a descriptor (RFC 8949 §3.4); from the range that is free for anyone's use.
inline constexpr uint64_t kDescriptorTag = 0xfd00;

/// One item of a message.
struct CborItem {
  enum class Type : uint8_t {
    kUnsigned,
    kNegative,
    kBytes,
    kText,
    kArray,
    kMap,
    kBoolean,
    kNull,
    kDescriptor,
  };
  Type type = Type::kNull;
  /// kUnsigned: the value; kNegative: -1 less it; kArray: elements; kMap: pairs; kBoolean: 0 or 1;
  /// kDescriptor: its index in the table.
  uint64_t number = 0;
  std::span<const uint8_t> bytes;  ///< kBytes, kText
  size_t next = 0;                 ///< where the item behind this one, and all that is in it, is

  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

/// How deep arrays and maps may be nested.
inline constexpr unsigned kMaxCborDepth = 16;
/// How many items a message may have.
inline constexpr size_t kMaxCborItems = size_t{1} << 20;

/// The items of a message that is one item, in the order of their bytes: the elements of an array,
/// and keys and values of a map, follow it. They point into `bytes`. Throws Error ERR_TSVMM_MESSAGE
/// unless everything is as above.
[[nodiscard]] std::vector<CborItem> read_cbor(std::span<const uint8_t> bytes);

}  // namespace tsvmm
