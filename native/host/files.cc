#include "host/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tsvmm {
namespace {

UniqueFd stream_socket() {
  return UniqueFd(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                              "making a socket"));
}

/// Removes what a killed process left behind: a socket that refuses connections. True if it did.
bool remove_stale_socket(const sockaddr_un& address) {
  const UniqueFd probe = stream_socket();
  const int result =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const bool stale = result != 0 && errno == ECONNREFUSED;
  struct stat status {};
  // A connection to what is no socket is refused as well.
  const bool is_socket = ::lstat(address.sun_path, &status) == 0 && S_ISSOCK(status.st_mode);
  return stale && is_socket && ::unlink(address.sun_path) == 0;
}

}  // namespace

UniqueFd open_file(const std::string& path, int flags, unsigned mode) {
  // A path with a zero byte would silently name another file.
  if (path.find('\0') != std::string::npos) throw Error("EINVAL", "a path contains a zero byte");
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return UniqueFd(check_errno(fd, ("opening " + path).c_str()));
}

std::vector<uint8_t> read_at(int fd, uint64_t offset, uint64_t length) {
  if (length > kMaxRead) throw Error("EINVAL", "too many bytes to read at once");
  std::vector<uint8_t> bytes(length);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error::from_errno("reading a file", errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

void set_file_size(int fd, uint64_t size) {
  check_errno(::ftruncate(fd, static_cast<off_t>(size)), "changing a file's size");
}

void remove_file(const std::string& path) {
  check_errno(::unlink(path.c_str()), ("removing " + path).c_str());
}

UniqueFd listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw Error("ENAMETOOLONG", "a socket path must have 1 to 107 bytes: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener = stream_socket();
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  int result = ::bind(listener.get(), name, sizeof address);
  if (result != 0 && errno == EADDRINUSE) {
    if (remove_stale_socket(address)) {
      result = ::bind(listener.get(), name, sizeof address);
    } else {
      errno = EADDRINUSE;
    }
  }
  check_errno(result, ("binding " + path).c_str());
  check_errno(::listen(listener.get(), SOMAXCONN), ("listening on " + path).c_str());
  return listener;
}

std::pair<UniqueFd, UniqueFd> stream_pair() {
  std::array<int, 2> ends{};
  check_errno(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()),
              "making a pair of sockets");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

bool lock_range(int fd, bool exclusive, uint64_t start, uint64_t length) {
  struct flock request {};
  request.l_type = static_cast<short>(exclusive ? F_WRLCK : F_RDLCK);
  request.l_whence = SEEK_SET;
  request.l_start = static_cast<off_t>(start);
  request.l_len = static_cast<off_t>(length);
  if (::fcntl(fd, F_OFD_SETLK, &request) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw Error::from_errno("locking a file", errno);
}

std::optional<FileLock> lock_holder(int fd, uint64_t start, uint64_t length) {
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  request.l_start = static_cast<off_t>(start);
  request.l_len = static_cast<off_t>(length);
  check_errno(::fcntl(fd, F_OFD_GETLK, &request), "looking for a file's locks");
  if (request.l_type == F_UNLCK) return std::nullopt;
  return FileLock{static_cast<uint64_t>(request.l_start), request.l_type == F_WRLCK};
}

std::string file_id(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "looking at a file");
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

uint64_t image_size(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "looking at an image");
  if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
  uint64_t size = 0;
  if (!S_ISBLK(status.st_mode) || ::ioctl(fd, BLKGETSIZE64, &size) != 0) {
    throw Error("ERR_TSVMM_NO_IMAGE", "neither a regular file nor a block device");
  }
  return size;
}

std::vector<uint8_t> random_bytes(uint64_t length) {
  std::vector<uint8_t> bytes(length);
  // Up to 256 bytes come whole, and no signal interrupts them.
  check_errno(static_cast<int>(::getrandom(bytes.data(), bytes.size(), 0)), "getrandom");
  return bytes;
}

}  // namespace tsvmm
