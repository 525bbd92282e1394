#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tsvmm {

/// Sends one datagram to a UNIX socket, at once or not at all. `address` is a path, or an abstract
/// name behind an `@` (unix(7)). Throws Error.
void send_datagram(const std::string& address, std::span<const uint8_t> bytes);

}  // namespace tsvmm
