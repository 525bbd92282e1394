#include "virtio/watchdog.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 8;
constexpr int kChainsPerTurn = kQueueSize;
constexpr uint8_t kAlive = 1;

}  // namespace

VirtioWatchdog::VirtioWatchdog(EventLoop& loop, std::function<void()> expired, Timing timing)
    : loop_(loop), expired_(std::move(expired)), timing_(timing) {}

VirtioWatchdog::~VirtioWatchdog() { reset(); }

uint64_t VirtioWatchdog::features() const noexcept { return 0; }

std::vector<uint16_t> VirtioWatchdog::queue_sizes() const { return {kQueueSize}; }

void VirtioWatchdog::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  last_fed_ = 0;
  timer_ = UniqueFd(
      check_errno(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create"));
  try {
    loop_.add(timer_.get(), EPOLLIN, [this](uint32_t) { check(); });
    server_ =
        std::make_unique<QueueServer>(loop_, activation, *setup, host(), kChainsPerTurn,
                                      [this](const DescriptorChain& chain) { return feed(chain); });
  } catch (...) {
    reset();
    throw;
  }
}

bool VirtioWatchdog::try_reset(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress() && !timer_.valid()) return true;
  const auto work = [this] {
    server_.reset();
    loop_.remove(timer_.get());
    timer_.reset();
  };
  return teardown_.run(loop_, work, deadline);
}

void VirtioWatchdog::resume() noexcept {
  if (last_fed_ != 0) last_fed_ = timing_.now_ns();
}

std::optional<uint32_t> VirtioWatchdog::feed(const DescriptorChain& chain) noexcept {
  if (chain.writable.empty()) return 0;
  chain.writable.front().host[0] = kAlive;
  if (last_fed_ == 0) set_timer(true);
  last_fed_ = timing_.now_ns();
  return 1;
}

void VirtioWatchdog::set_timer(bool running) noexcept {
  const int64_t milliseconds = running ? timing_.check_period.count() : 0;
  const timespec period{.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1'000'000};
  const itimerspec setting{.it_interval = period, .it_value = period};
  ::timerfd_settime(timer_.get(), 0, &setting, nullptr);
}

void VirtioWatchdog::check() noexcept {
  uint64_t expirations = 0;
  if (::read(timer_.get(), &expirations, sizeof expirations) < 0) return;
  const uint64_t fed = last_fed_;
  const uint64_t timeout_ns = std::chrono::nanoseconds(timing_.timeout).count();
  if (timing_.now_ns() - fed < timeout_ns) return;
  set_timer(false);
  expired_();
}

}  // namespace tsvmm
