#include "host/listening_socket.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
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
    return {.lock = std::move(file.fd), .lock_id = file.made ? id : std::string(), .name = {}};
  }
  throw Error("ERR_TSVMM_SOCKET_LOCKED", "other processes use " + path);
}

/// Removes what a killed process of this user left behind: a socket that refuses connections. True
/// if it did. With the lock held: no process of ours is between bind() and listen().
bool remove_stale_socket(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  const auto before = look_at(path);
  if (!before || !S_ISSOCK(before->st_mode) || before->st_uid != ::geteuid()) return false;
  const UniqueFd probe = stream_socket();
  const int result =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (result == 0 || errno != ECONNREFUSED) return false;
  return is_at(path, id_of(*before)) && ::unlink(path.c_str()) == 0;
}

/// Where the socket of a path is bound: the kernel shows it by this name as long as it lives
/// (/proc/net/unix), so it begins with the path. It is the path itself where the name would be too
/// long or something has it. What a process left there that was killed is removed.
std::string name_to_bind(const std::string& path) {
  std::string name = path + ".bound";
  if (name.size() >= sizeof(sockaddr_un::sun_path)) return path;
  if (look_at(name) && !remove_stale_socket(name)) return path;
  return name;
}

/// Gives a file another name, which nothing has yet. 0, or an errno: EEXIST if something has it.
int move_to_free_name(const std::string& from, const std::string& to) {
  // Who watches the folder is told that the file was made (IN_CREATE), as by bind().
  if (::link(from.c_str(), to.c_str()) == 0) {
    ::unlink(from.c_str());
    return 0;
  }
  if (errno == EEXIST) return EEXIST;
  // A file system, or a security module, without hard links.
  if (::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0)
    return 0;
  if (errno == EEXIST) return EEXIST;
  // And one without that call's flags: the lock keeps other processes like this one from the path.
  if (look_at(to)) return EEXIST;
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

/// Clients that find the file between bind() and listen() are refused.
UniqueFd bind_and_listen(const std::string& name) {
  const sockaddr_un address = unix_address(name);
  UniqueFd socket = stream_socket();
  check_errno(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              ("binding " + name).c_str());
  if (::listen(socket.get(), SOMAXCONN) == 0) return socket;
  const int error = errno;
  if (const auto status = look_at(name)) remove_listening_socket(name, id_of(*status), {});
  throw Error::from_errno("listening on " + name, error);
}

}  // namespace

SocketClaim claim_socket(const std::string& path) {
  (void)unix_address(path);
  SocketClaim claim = take_lock(path + ".lock");
  if (look_at(path) && !remove_stale_socket(path)) {
    remove_listening_socket(path, {}, claim.lock_id);
    throw Error::from_errno("binding " + path, EADDRINUSE);
  }
  claim.name = name_to_bind(path);
  return claim;
}

ListeningSocket listen_unix(const std::string& path) {
  (void)unix_address(path);
  const std::string name = name_to_bind(path);
  UniqueFd listener = bind_and_listen(name);
  return {.listener = std::move(listener), .id = place_socket(name, path)};
}

std::string place_socket(const std::string& name, const std::string& path) {
  const auto status = look_at(name);
  if (!status) throw Error("ENOENT", "the socket " + name + " was removed at once");
  std::string id = id_of(*status);
  if (name == path) return id;
  const int error = move_to_free_name(name, path);
  if (error == 0) return id;
  remove_listening_socket(name, id, {});
  throw Error::from_errno("binding " + path, error == EEXIST ? EADDRINUSE : error);
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
