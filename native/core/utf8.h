#pragma once

#include <string>
#include <string_view>

namespace tsvmm {

/// Whether text is well-formed UTF-8 (RFC 3629 §4): no surrogates, nothing longer than it has to
/// be.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// The text with U+FFFD for each byte that is no part of a well-formed character.
[[nodiscard]] std::string to_utf8(std::string_view text);

}  // namespace tsvmm
