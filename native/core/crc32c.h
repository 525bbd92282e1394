#pragma once

#include <cstdint>
#include <span>

namespace tsvmm {

/// CRC-32C (Castagnoli, RFC 3720 §B.4) of `bytes`; `crc` is that of what comes before them.
[[nodiscard]] uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0) noexcept;

}  // namespace tsvmm
