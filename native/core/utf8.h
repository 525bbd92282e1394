#pragma once

#include <string_view>

namespace tsvmm {

/// Whether text is well-formed UTF-8 (RFC 3629 §4): no surrogates, nothing longer than it has to
/// be.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

}  // namespace tsvmm
