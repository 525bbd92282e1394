#include "core/crc32c.h"

#include <array>

#include "core/bytes.h"

namespace tsvmm {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
constexpr size_t kLanes = 8;

using Tables = std::array<std::array<uint32_t, 256>, kLanes>;

/// Table n is what a byte that is followed by n others adds.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t n = 1; n < kLanes; ++n) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[n - 1][byte];
      tables[n][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc) noexcept {
  crc = ~crc;
  for (; bytes.size() >= kLanes; bytes = bytes.subspan(kLanes)) {
    const uint64_t word = load<uint64_t>(bytes) ^ crc;
    crc = 0;
    for (size_t i = 0; i < kLanes; ++i) {
      crc ^= kTables[kLanes - 1 - i][(word >> (8 * i)) & 0xff];
    }
  }
  for (const uint8_t byte : bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ byte) & 0xff];
  return ~crc;
}

}  // namespace tsvmm
