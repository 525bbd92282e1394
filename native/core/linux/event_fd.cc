#include "core/event_fd.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "core/error.h"

namespace tsvmm {

EventFd::EventFd() : fd_(check_errno(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

void EventFd::signal() const noexcept {
  const uint64_t one = 1;
  // The only possible failure, EAGAIN, means that the counter is at its maximum: still signalled.
  [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
}

uint64_t EventFd::consume() const noexcept {
  uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

bool EventFd::signalled() const noexcept {
  pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, 0) == 1 && (wait.revents & POLLIN) != 0;
}

}  // namespace tsvmm
