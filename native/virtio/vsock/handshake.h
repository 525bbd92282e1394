#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tsvmm::vsock {

/// The most that a client's line may have, its line feed included.
inline constexpr size_t kMaxConnectLine = 32;

/// The port of a client's "CONNECT <port>" (`line` without its line feed): the word in any case, a
/// decimal number of 32 bits, white space around both. nullopt for anything else.
std::optional<uint32_t> parse_connect(std::string_view line) noexcept;

}  // namespace tsvmm::vsock
