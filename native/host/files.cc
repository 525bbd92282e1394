#include "host/files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tsvmm {

UniqueFd listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw Error("ENAMETOOLONG", "a socket path must have 1 to 107 bytes: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(check_errno(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                                "making a socket"));
  check_errno(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              ("binding " + path).c_str());
  check_errno(::listen(listener.get(), 16), ("listening on " + path).c_str());
  return listener;
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

}  // namespace tsvmm
