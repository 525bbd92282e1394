#pragma once

#include <cstdint>
#include <optional>

namespace tsvmm {

/// One use of a terminal in raw mode.
using RawUse = uint64_t;

/// Puts a terminal into raw mode (termios(3), cfmakeraw); nullopt if `fd` is none. It goes back to
/// what it was before when the last of its uses ends, through whichever descriptors they came and
/// whatever has become of these; or when a signal ends this process. Signals that are ignored, or
/// have a handler already, are left to whoever wants them. Throws Error.
std::optional<RawUse> begin_raw_use(int fd);
/// Throws Error, EINVAL if there is no such use (any more).
void end_raw_use(RawUse use);

}  // namespace tsvmm
