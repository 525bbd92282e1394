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

/// Bytes of the character at the beginning of `text`, 0 if none is there.
size_t character_length(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return 1;
  const size_t behind = continuation_bytes(first);
  if (behind == 0 || behind >= text.size()) return 0;
  if (!may_follow(first, static_cast<uint8_t>(text[1]))) return 0;
  for (size_t i = 2; i <= behind; ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0U) != 0x80) return 0;
  }
  return 1 + behind;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string to_utf8(std::string_view text) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
  std::string valid;
  while (!text.empty()) {
    const size_t length = character_length(text);
    valid += length == 0 ? kReplacement : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return valid;
}

}  // namespace tsvmm
