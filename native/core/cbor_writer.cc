#include "core/cbor_writer.h"

#include "core/utf8.h"

namespace tsvmm {
namespace {

// Major types (RFC 8949 §3.1), and simple values with theirs (§3.3).
constexpr uint8_t kUnsigned = 0;
constexpr uint8_t kBytes = 2;
constexpr uint8_t kText = 3;
constexpr uint8_t kArray = 4;
constexpr uint8_t kMap = 5;
constexpr uint8_t kFalse = 0xf4;
constexpr uint8_t kTrue = 0xf5;
constexpr uint8_t kNull = 0xf6;

}  // namespace

void CborWriter::head(uint8_t major, uint64_t argument) {
  const auto high = static_cast<uint8_t>(major << 5);
  if (argument < 24) {
    bytes_.push_back(static_cast<uint8_t>(high | argument));
    return;
  }
  uint8_t log_size = 0;
  while (log_size < 3 && argument >> (8U << log_size) != 0) ++log_size;
  bytes_.push_back(static_cast<uint8_t>(high | (24U + log_size)));
  for (unsigned shift = 8U << log_size; shift > 0;) {
    shift -= 8;
    bytes_.push_back(static_cast<uint8_t>(argument >> shift));
  }
}

void CborWriter::append(std::span<const uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

CborWriter& CborWriter::array(uint64_t elements) {
  head(kArray, elements);
  return *this;
}

CborWriter& CborWriter::map(uint64_t pairs) {
  head(kMap, pairs);
  return *this;
}

CborWriter& CborWriter::number(uint64_t value) {
  head(kUnsigned, value);
  return *this;
}

/// What is not UTF-8, such as a file's name may be, would make a message that cannot be read.
CborWriter& CborWriter::text(std::string_view value) {
  if (!is_utf8(value)) return text(to_utf8(value));
  head(kText, value.size());
  append({reinterpret_cast<const uint8_t*>(value.data()), value.size()});
  return *this;
}

CborWriter& CborWriter::bytes(std::span<const uint8_t> value) {
  head(kBytes, value.size());
  append(value);
  return *this;
}

CborWriter& CborWriter::boolean(bool value) {
  bytes_.push_back(value ? kTrue : kFalse);
  return *this;
}

CborWriter& CborWriter::null() {
  bytes_.push_back(kNull);
  return *this;
}

CborWriter& CborWriter::item(std::span<const uint8_t> encoded) {
  append(encoded);
  return *this;
}

}  // namespace tsvmm
