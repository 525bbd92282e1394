#include "device/last_output.h"

#include <poll.h>

#include "core/monotonic.h"

namespace tsvmm {
namespace {

constexpr uint64_t kTimeoutNs = 1'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace

void flush_last_output(int fd, const ByteRing& backlog, const std::function<void()>& flush) {
  const uint64_t deadline = monotonic_ns() + kTimeoutNs;
  while (backlog.unread() > 0) {
    const uint64_t now = monotonic_ns();
    if (now >= deadline) return;
    pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
    // Rounded up, so that the last wait is not one of no time.
    const auto timeout = static_cast<int>((deadline - now) / kNsPerMs + 1);
    if (::poll(&wait, 1, timeout) == 1 && (wait.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
      return;
    }
    flush();
  }
}

}  // namespace tsvmm
