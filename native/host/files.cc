#include "host/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "core/descriptor_name.h"
#include "core/error.h"

namespace tsvmm {
namespace {

constexpr std::string_view name_of(mode_t mode) {
  if (S_ISREG(mode)) return "regular file";
  if (S_ISBLK(mode)) return "block device";
  if (S_ISCHR(mode)) return "character device";
  if (S_ISFIFO(mode)) return "FIFO";
  if (S_ISDIR(mode)) return "directory";
  return "socket";
}

std::string id_of(const struct stat& status) {
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

constexpr unsigned kind_of(mode_t mode) {
  if (S_ISREG(mode)) return kRegularFile;
  if (S_ISBLK(mode)) return kBlockDevice;
  if (S_ISCHR(mode)) return kCharacterDevice;
  if (S_ISFIFO(mode)) return kFifo;
  return 0;
}

/// "a regular file or a block device"
std::string names_of(unsigned kinds) {
  std::string names;
  for (const mode_t mode : {S_IFREG, S_IFBLK, S_IFCHR, S_IFIFO}) {
    if ((kinds & kind_of(mode)) == 0) continue;
    names += names.empty() ? "a " : " or a ";
    names += name_of(mode);
  }
  return names;
}

void check_kind(mode_t mode, unsigned kinds, const std::string& path) {
  if ((kind_of(mode) & kinds) != 0) return;
  throw Error("ERR_TSVMM_FILE_KIND",
              path + " is a " + std::string(name_of(mode)) + ", not " + names_of(kinds));
}

/// EAGAIN: somebody has a lease on the file, which a blocking open would wait for.
UniqueFd open_quickly(const std::string& path, int flags, unsigned mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
  } while (fd < 0 && errno == EINTR);
  // fifo(7), of opening the end that writes.
  if (fd < 0 && errno == ENXIO && (flags & O_ACCMODE) == O_WRONLY) {
    throw Error("ENXIO",
                path + " is a FIFO that nobody reads, or belongs to a device that is gone");
  }
  return UniqueFd(check_errno(fd, ("opening " + path).c_str()));
}

}  // namespace

UniqueFd open_file(const std::string& path, int flags, unsigned mode, unsigned kinds) {
  // A path with a zero byte would silently name another file.
  if (path.find('\0') != std::string::npos) throw Error("EINVAL", "a path contains a zero byte");
  struct stat status {};
  // With O_TMPFILE the path is that of a folder, and open(2) takes nothing else.
  const bool temporary = (flags & O_TMPFILE) == O_TMPFILE;
  const bool follows = (flags & O_NOFOLLOW) == 0;
  const int looked = follows ? ::stat(path.c_str(), &status) : ::lstat(path.c_str(), &status);
  if (!temporary && looked == 0 && !S_ISLNK(status.st_mode)) {
    check_kind(status.st_mode, kinds, path);
  }
  UniqueFd fd = open_quickly(path, flags, mode);
  // It may have become another since.
  check_errno(::fstat(fd.get(), &status), "looking at a file");
  check_kind(status.st_mode, kinds, path);
  if ((flags & O_NONBLOCK) == 0) {
    const int open_flags = check_errno(::fcntl(fd.get(), F_GETFL), "examining a file");
    check_errno(::fcntl(fd.get(), F_SETFL, open_flags & ~O_NONBLOCK), "preparing a file");
  }
  return fd;
}

std::vector<uint8_t> read_at(int fd, uint64_t offset, uint64_t length) {
  if (length > kMaxRead) throw Error("EINVAL", "too many bytes to read at once");
  std::vector<uint8_t> bytes(length);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error::from_errno("reading " + descriptor_name(fd), errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

void set_file_size(int fd, uint64_t size) {
  check_errno(::ftruncate(fd, static_cast<off_t>(size)), "changing a file's size");
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

void unlock_range(int fd, uint64_t start, uint64_t length) {
  struct flock request {};
  request.l_type = F_UNLCK;
  request.l_whence = SEEK_SET;
  request.l_start = static_cast<off_t>(start);
  request.l_len = static_cast<off_t>(length);
  check_errno(::fcntl(fd, F_OFD_SETLK, &request), "unlocking a file");
}

std::string file_id(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "looking at a file");
  return id_of(status);
}

std::optional<std::string> file_id_at(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return id_of(status);
}

uint64_t image_size(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "looking at an image");
  if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
  uint64_t size = 0;
  if (!S_ISBLK(status.st_mode) || ::ioctl(fd, BLKGETSIZE64, &size) != 0) {
    throw Error("ERR_TSVMM_FILE_KIND", "neither a regular file nor a block device");
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
