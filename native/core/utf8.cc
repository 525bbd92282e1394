#include "core/utf8.h"

#include <cstddef>
#include <cstdint>

namespace tsvmm {
namespace {

/// Bytes behind this first one, 0 if it cannot begin a character of several.
size_t continuation_bytes(uint8_t first) {
  if (first >= 0xc2 && first <= 0xdf) return 1;
  if (first >= 0xe0 && first <= 0xef) return 2;
  if (first >= 0xf0 && first <= 0xf4) return 3;
  return 0;
}

/// The second byte's range depends on the first.
bool may_follow(uint8_t first, uint8_t second) {
  if (first == 0xe0) return second >= 0xa0 && second <= 0xbf;
  if (first == 0xed) return second >= 0x80 && second <= 0x9f;
  if (first == 0xf0) return second >= 0x90 && second <= 0xbf;
  if (first == 0xf4) return second >= 0x80 && second <= 0x8f;
  return second >= 0x80 && second <= 0xbf;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<uint8_t>(text[i++]);
    if (first < 0x80) continue;
    size_t left = continuation_bytes(first);
    if (left == 0 || left > text.size() - i) return false;
    if (!may_follow(first, static_cast<uint8_t>(text[i]))) return false;
    for (; left > 0; --left, ++i) {
      if ((static_cast<uint8_t>(text[i]) & 0xc0U) != 0x80) return false;
    }
  }
  return true;
}

}  // namespace tsvmm
