#include "virtio/watchdog.h"

#include <utility>

#include "core/message.h"
#include "virtio/device_kind.h"

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
  timer_.emplace();
  loop_.add(timer_->fd(), io::kReadable, [this](IoEvents) { check(); });
  if (state_.is_fed) begin_watching();
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kChainsPerTurn,
                                    [this](const DescriptorChain& chain) { return feed(chain); });
}

bool VirtioWatchdog::try_reset(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress() && !timer_) return true;
  const auto work = [this] {
    server_.reset();
    state_ = {};
    loop_.remove(timer_->fd());
    timer_.reset();
  };
  return teardown_.run(loop_, work, deadline);
}

void VirtioWatchdog::resume() noexcept { last_fed_ = timing_.now_ns(); }

void VirtioWatchdog::save(CborWriter& state) const {
  state.map(1).key("fed").boolean(state_.is_fed);
}

void VirtioWatchdog::restore(Fields& state) { state_.is_fed = state["fed"].boolean(); }

std::optional<uint32_t> VirtioWatchdog::feed(const DescriptorChain& chain) noexcept {
  if (chain.writable.empty()) return 0;
  chain.writable.front().host[0] = kAlive;
  if (!state_.is_fed) begin_watching();
  last_fed_ = timing_.now_ns();
  return 1;
}

void VirtioWatchdog::begin_watching() noexcept {
  state_.is_fed = true;
  last_fed_ = timing_.now_ns();
  timer_->start_every(std::chrono::nanoseconds(timing_.check_period).count());
}

void VirtioWatchdog::check() noexcept {
  if (!timer_->consume()) return;
  const uint64_t fed = last_fed_;
  const uint64_t timeout_ns = std::chrono::nanoseconds(timing_.timeout).count();
  if (timing_.now_ns() - fed < timeout_ns) return;
  timer_->stop();
  expired_();
}

namespace {

struct WatchdogSpec : DeviceSpec {
  explicit WatchdogSpec(Fields& /*fields*/) {}

  std::shared_ptr<VirtioDevice> make(const std::string& /*id*/,
                                     const DeviceContext& context) override {
    return std::make_shared<VirtioWatchdog>(context.loop,
                                            [reset = context.reset_machine] { reset("watchdog"); });
  }
};

}  // namespace

DeviceKind watchdog_kind() { return {"watchdog", read_device_spec<WatchdogSpec>}; }

}  // namespace tsvmm
