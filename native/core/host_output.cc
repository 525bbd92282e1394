#include "core/host_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "core/descriptor_name.h"
#include "core/error.h"

namespace tsvmm {
namespace {

/// A description of our own, non-blocking, of the same pipe or terminal; invalid if there is none
/// to be had.
UniqueFd reopen(int fd) {
  // A pseudo terminal's master would open as a new pseudo terminal.
  unsigned number = 0;
  if (::ioctl(fd, TIOCGPTN, &number) == 0) return {};
  return UniqueFd(
      ::open(descriptor_path(fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

HostOutput::HostOutput(int fd, Lost lost) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "examining an output descriptor");
  if (S_ISSOCK(status.st_mode)) {
    way_ = Way::kSocket;
  } else if (S_ISFIFO(status.st_mode) || (S_ISCHR(status.st_mode) && ::isatty(fd) == 1)) {
    fd_ = reopen(fd);
    if (fd_.valid()) return;
    // POSIX promises room for PIPE_BUF bytes in a writable pipe, of a terminal we only know that
    // there is some.
    way_ = Way::kPolled;
    chunk_ = S_ISFIFO(status.st_mode) ? PIPE_BUF : 1;
  } else {
    lost_ = std::move(lost);
  }
  fd_ = UniqueFd::duplicate(fd);
}

size_t HostOutput::write(std::span<const uint8_t> bytes) noexcept {
  size_t taken = 0;
  while (taken < bytes.size()) {
    const ssize_t written = write_some(bytes.subspan(taken));
    if (written > 0) {
      taken += static_cast<size_t>(written);
    } else if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return taken;
    } else if (written == 0 || errno != EINTR) {
      lose(written == 0 ? ENOSPC : errno);
      return bytes.size();
    }
  }
  return taken;
}

void HostOutput::lose(int error) const noexcept {
  if (lost_) lost_(error);
}

ssize_t HostOutput::write_some(std::span<const uint8_t> bytes) const noexcept {
  switch (way_) {
    case Way::kSocket:
      return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    case Way::kPolled: {
      pollfd wait{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      if (::poll(&wait, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
      }
      return ::write(fd_.get(), bytes.data(), std::min(bytes.size(), chunk_));
    }
    case Way::kPlain:
      break;
  }
  return ::write(fd_.get(), bytes.data(), bytes.size());
}

}  // namespace tsvmm
