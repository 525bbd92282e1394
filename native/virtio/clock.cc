#include "virtio/clock.h"

#include <sys/timex.h>

#include <utility>

#include "core/bytes.h"
#include "virtio/chain_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr int kRequestsPerTurn = 32;

// Message types.
constexpr uint16_t kRead = 0x0001;
constexpr uint16_t kConfig = 0x1000;
constexpr uint16_t kClockCapability = 0x1001;
constexpr uint16_t kCrossCapability = 0x1002;

// Statuses.
constexpr uint8_t kOk = 0;
constexpr uint8_t kNotSupported = 2;
constexpr uint8_t kNoDevice = 3;
constexpr uint8_t kInvalid = 4;
constexpr uint8_t kIoError = 5;

/// Of requests and responses alike.
constexpr size_t kHeadSize = 8;
constexpr size_t kShort = 16;  ///< with one more word
constexpr size_t kClockIdOffset = kHeadSize;

constexpr uint64_t kNsPerSecond = 1'000'000'000;

}  // namespace

std::vector<VirtioClock::Clock> VirtioClock::host_clocks() {
  std::vector<Clock> clocks{{Type::kUtc, CLOCK_REALTIME}, {Type::kMonotonic, CLOCK_MONOTONIC}};
  timex state{};
  // A host that was never told the offset takes TAI for UTC.
  if (::adjtimex(&state) >= 0 && state.tai != 0) clocks.push_back({Type::kTai, CLOCK_TAI});
  return clocks;
}

VirtioClock::VirtioClock(EventLoop& loop, std::vector<Clock> clocks)
    : loop_(loop), clocks_(std::move(clocks)) {}

VirtioClock::~VirtioClock() = default;

uint64_t VirtioClock::features() const noexcept {
  return virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioClock::queue_sizes() const { return {kQueueSize}; }

void VirtioClock::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kRequestsPerTurn,
                                    [this](const DescriptorChain& chain) { return answer(chain); });
}

bool VirtioClock::try_reset(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress() && !server_) return true;
  return teardown_.run(
      loop_, [this] { server_.reset(); }, deadline);
}

uint32_t VirtioClock::answer(const DescriptorChain& chain) noexcept {
  Message request{};
  const size_t size = gather(chain.readable, request);
  Response response = carry_out(std::span<const uint8_t>(request).first(size));
  const uint64_t room = total_length(chain.writable);
  if (room < kHeadSize) return 0;
  if (room < response.size) response = {.bytes = {kInvalid}, .size = kHeadSize};
  if (response.bytes[0] != kOk) ++refused_;
  return scatter(std::span<const uint8_t>(response.bytes).first(response.size), chain.writable);
}

VirtioClock::Response VirtioClock::carry_out(std::span<const uint8_t> request) noexcept {
  const auto refuse = [](uint8_t status) { return Response{.bytes = {status}, .size = kHeadSize}; };
  Response response{.size = kShort};
  if (request.size() < kHeadSize) return refuse(kInvalid);
  const auto type = load<uint16_t>(request);
  if (type == kConfig) {
    store(std::span<uint8_t>(response.bytes), static_cast<uint16_t>(clocks_.size()), kHeadSize);
    return response;
  }
  if (type != kRead && type != kClockCapability && type != kCrossCapability) {
    return refuse(kNotSupported);  // cross-timestamps and alarms included
  }
  if (request.size() < kShort) return refuse(kInvalid);
  const auto clock_id = load<uint16_t>(request, kClockIdOffset);
  if (clock_id >= clocks_.size()) return refuse(kNoDevice);
  const Clock& clock = clocks_[clock_id];
  if (type == kRead) return read_clock(clock);
  // Of cross-timestamps there are none, whatever the counter: the flags stay zero.
  if (type == kClockCapability) response.bytes[kHeadSize] = static_cast<uint8_t>(clock.type);
  return response;
}

VirtioClock::Response VirtioClock::read_clock(const Clock& clock) noexcept {
  timespec now{};
  if (::clock_gettime(clock.id, &now) != 0) return {.bytes = {kIoError}, .size = kHeadSize};
  Response response{.size = kShort};
  const uint64_t reading =
      static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
  store(std::span<uint8_t>(response.bytes), reading, kHeadSize);
  ++readings_;
  return response;
}

std::vector<Counter> VirtioClock::counters() const {
  return {{"readings", readings_}, {"refused_requests", refused_}};
}

namespace {

struct ClockSpec : DeviceSpec {
  explicit ClockSpec(Fields& /*fields*/) {}

  std::shared_ptr<VirtioDevice> make(const std::string& /*id*/,
                                     const DeviceContext& context) override {
    return std::make_shared<VirtioClock>(context.loop);
  }
};

}  // namespace

DeviceKind clock_kind() { return {"rtc", read_device_spec<ClockSpec>}; }

}  // namespace tsvmm
