#include "host/listening_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "host/files.h"
#include "host/unix_address.h"

namespace tsvmm {
namespace {

constexpr mode_t kPrivate = 0600;
/// A lock file that its owner removes while we open it is opened anew; each time somebody else has
/// come and gone meanwhile.
constexpr int kLockAttempts = 100;

std::string id_of(const struct stat& status) {
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

/// Of what a path names, without following links; nullopt if that cannot be said.
std::optional<struct stat> look_at(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

/// Whether the path itself, not where a link leads, is the file with `id`.
bool is_at(const std::string& path, const std::string& id) {
  const auto status = look_at(path);
  return status && id_of(*status) == id;
}

UniqueFd stream_socket() {
  UniqueFd socket(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                              "making a socket"));
  // bind(2) gives the file the mode of the socket, less the umask: private from the start.
  check_errno(::fchmod(socket.get(), kPrivate), "making a socket private");
  return socket;
}

struct LockFile {
  UniqueFd fd;
  bool made = false;
};

LockFile open_lock(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_NOFOLLOW;
  try {
    return {open_file(path, kFlags | O_CREAT | O_EXCL, kPrivate, kRegularFile), true};
  } catch (const Error& error) {
    if (error.code() != "EEXIST") throw;
  }
  return {open_file(path, kFlags, 0, kRegularFile), false};
}

/// In a folder that others may write to, they may have put a file there, or a link to one of ours.
void check_lock_is_ours(const UniqueFd& lock, const std::string& path) {
  struct stat status {};
  check_errno(::fstat(lock.get(), &status), "looking at a lock file");
  if (status.st_uid == ::geteuid() && status.st_nlink <= 1) return;
  throw Error("EPERM", "the lock file " + path + " is not this user's own");
}

SocketClaim take_lock(const std::string& path) {
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    LockFile file;
    try {
      file = open_lock(path);
    } catch (const Error& error) {
      if (error.code() == "ENOENT" && attempt + 1 < kLockAttempts) continue;  // removed just now
      throw Error(error.code(), "cannot open the lock file: " + std::string(error.what()));
    }
    check_lock_is_ours(file.fd, path);
    if (!lock_range(file.fd.get(), true, 0, 0)) {
      throw Error("ERR_TSVMM_SOCKET_LOCKED", "another process holds " + path);
    }
    const std::string id = file_id(file.fd.get());
    // Its last holder may have removed it between our opening and locking: then it locks nothing.
    if (!is_at(path, id)) continue;
    return {std::move(file.fd), file.made ? id : std::string()};
  }
  throw Error("ERR_TSVMM_SOCKET_LOCKED", "other processes use " + path);
}

/// Removes what a killed process of this user left behind: a socket that refuses connections. True
/// if it did. With the lock held: no process of ours is between bind() and listen().
bool remove_stale_socket(const std::string& path, const sockaddr_un& address) {
  const auto before = look_at(path);
  if (!before || !S_ISSOCK(before->st_mode) || before->st_uid != ::geteuid()) return false;
  const UniqueFd probe = stream_socket();
  const int result =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (result == 0 || errno != ECONNREFUSED) return false;
  return is_at(path, id_of(*before)) && ::unlink(path.c_str()) == 0;
}

}  // namespace

SocketClaim claim_socket(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  SocketClaim claim = take_lock(path + ".lock");
  if (look_at(path) && !remove_stale_socket(path, address)) {
    remove_listening_socket(path, {}, claim.lock_id);
    throw Error::from_errno("binding " + path, EADDRINUSE);
  }
  return claim;
}

ListeningSocket listen_unix(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  ListeningSocket socket{.listener = stream_socket(), .id = {}};
  const int fd = socket.listener.get();
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  check_errno(::bind(fd, name, sizeof address), ("binding " + path).c_str());
  const auto status = look_at(path);
  if (!status) throw Error("ENOENT", "the socket " + path + " was removed at once");
  socket.id = id_of(*status);
  if (::listen(fd, SOMAXCONN) != 0) {
    const int error = errno;
    remove_listening_socket(path, socket.id, {});
    throw Error::from_errno("listening on " + path, error);
  }
  return socket;
}

void remove_listening_socket(const std::string& path, const std::string& id,
                             const std::string& lock_id) noexcept {
  try {
    const std::string lock_path = path + ".lock";
    if (!id.empty() && is_at(path, id)) ::unlink(path.c_str());
    // Last, and while it is locked: a process that opens it meanwhile sees that it is gone.
    if (!lock_id.empty() && is_at(lock_path, lock_id)) ::unlink(lock_path.c_str());
  } catch (...) {
    // Out of memory: the files stay, as after a kill.
  }
}

}  // namespace tsvmm
