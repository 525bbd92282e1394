#pragma once

#include <cstdint>
#include <string>

#include "core/unique_fd.h"

/// The host's ends of streams: UNIX stream sockets.
namespace tsvmm::vsock {

/// The next client of a listening socket. Invalid with errno set if there is none, or none can be
/// had (EMFILE and the like).
UniqueFd accept_client(int listener) noexcept;

enum class Connect { kDone, kBusy, kFailed };
/// Connects to the socket that listens at `path`. kBusy: its queue of clients is full, it is worth
/// trying again. Unless `any_owner`, the name must be this process's user's, and who listens that
/// user or root: in a folder that others may write to, anybody can make a socket of that name.
Connect connect_to(const std::string& path, bool any_owner, UniqueFd& socket) noexcept;

}  // namespace tsvmm::vsock
