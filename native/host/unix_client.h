#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

/// Connects to the UNIX stream socket at a path, without waiting; non-blocking and close-on-exec.
/// To the socket of a console, `reader` says that nothing will be sent (core/reader_name.h). Throws
/// Error: EAGAIN while more clients wait there than the server takes at once.
UniqueFd connect_unix(const std::string& path, bool reader);

/// What Linux lets one message carry (SCM_MAX_FD, unix(7)).
inline constexpr size_t kMaxMessageDescriptors = 253;

/// Sends bytes, at least one, with descriptors (SCM_RIGHTS, unix(7)), without waiting: how many
/// bytes left. The descriptors left with the first of them. Throws Error, EAGAIN if there is no
/// room for any.
size_t send_descriptors(int socket, std::span<const uint8_t> bytes,
                        const std::vector<int>& descriptors);

}  // namespace tsvmm
