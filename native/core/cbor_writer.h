#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tsvmm {

/// Writes one message in the encoding of core/cbor_reader.h. Whoever begins an array or a map
/// writes as many elements, or pairs of key and value, as it said.
class CborWriter {
 public:
  CborWriter& array(uint64_t elements);
  CborWriter& map(uint64_t pairs);
  CborWriter& number(uint64_t value);
  CborWriter& text(std::string_view value);
  CborWriter& bytes(std::span<const uint8_t> value);
  CborWriter& boolean(bool value);
  CborWriter& null();

  /// An item that is written already.
  CborWriter& item(std::span<const uint8_t> encoded);

  /// A pair of a map; what follows key() is its value.
  CborWriter& key(std::string_view name) { return text(name); }
  CborWriter& field(std::string_view name, uint64_t value) { return key(name).number(value); }
  CborWriter& field(std::string_view name, std::string_view value) { return key(name).text(value); }

  [[nodiscard]] std::vector<uint8_t> take() { return std::move(bytes_); }

 private:
  void head(uint8_t major, uint64_t argument);
  void append(std::span<const uint8_t> bytes);

  std::vector<uint8_t> bytes_;
};

}  // namespace tsvmm
