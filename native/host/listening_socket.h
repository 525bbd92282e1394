#pragma once

#include <string>

#include "core/unique_fd.h"

namespace tsvmm {

/// The right to make, replace and remove a socket at a path: a lock (fcntl(2), F_OFD_SETLK) on the
/// file `path`.lock. So two processes never both listen there.
struct SocketClaim {
  UniqueFd lock;        ///< to be kept as long as the claim
  std::string lock_id;  ///< of the lock file if this call made it, else empty
  std::string name;     ///< for a server that binds its socket itself: place_socket() follows
};

/// Claims `path` (1 to 107 bytes) for a socket. What is there already is left alone, but for a
/// socket of this user that nobody listens on any more, which is removed. Throws Error: EADDRINUSE
/// if the path is taken, ERR_TSVMM_SOCKET_LOCKED if another process holds the lock.
SocketClaim claim_socket(const std::string& path);

struct ListeningSocket {
  UniqueFd listener;  ///< close-on-exec, non-blocking
  std::string id;     ///< of the socket's file
};

/// Makes a socket at a path that is claimed, and listens. It is its user's alone, whatever the
/// umask, and listens already when it appears there: who waits for the file can connect. Throws
/// Error.
ListeningSocket listen_unix(const std::string& path);

/// Gives a socket that listens, bound as a claim's `name`, the path that is claimed. Returns the
/// socket's id. Throws Error, and the socket has no name any more: EADDRINUSE if something is at
/// the path.
std::string place_socket(const std::string& name, const std::string& path);

/// Removes the socket with `id` and the lock file with `lock_id` (each if not empty) from their
/// paths. Nothing happens where there is something else by now. To be called before the lock is
/// closed.
void remove_listening_socket(const std::string& path, const std::string& id,
                             const std::string& lock_id) noexcept;

}  // namespace tsvmm
