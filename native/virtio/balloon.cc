#include "virtio/balloon.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "core/bytes.h"
#include "core/message.h"
#include "core/monotonic.h"
#include "core/shared_member.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

// virtio 1.2 §5.5.3.
constexpr uint64_t kFeatureStatistics = 1 << 1;
constexpr uint64_t kFeatureDeflateOnOom = 1 << 2;
constexpr uint64_t kFeaturePagePoison = 1 << 4;
constexpr uint64_t kFeatureReporting = 1 << 5;

constexpr uint16_t kInflateQueue = 0;
constexpr uint16_t kDeflateQueue = 1;
constexpr uint16_t kStatisticsQueue = 2;
constexpr uint16_t kReportingQueue = 4;
constexpr uint16_t kQueueSize = 128;
constexpr uint16_t kReportingQueueSize = 32;
/// A request is up to 1 MiB of scattered pages or hundreds of megabytes in pieces: each takes about
/// a millisecond, and the loop serves other devices.
constexpr int kRequestsPerTurn = 1;

constexpr uint64_t kStatisticsAgeNs = 1'000'000'000;

/// struct virtio_balloon_config, §5.5.4.
struct Config {
  uint32_t num_pages;
  uint32_t actual;
  uint32_t free_page_hint_command;
  uint32_t poison_value;
};
static_assert(sizeof(Config) == 16);
constexpr uint32_t kActualOffset = 4;
constexpr uint32_t kPoisonOffset = 12;

uint32_t pages_of(uint64_t bytes) {
  const uint64_t pages = bytes / BalloonPages::kPageSize;
  return static_cast<uint32_t>(std::min<uint64_t>(pages, std::numeric_limits<uint32_t>::max()));
}

/// Page numbers of a buffer, copied; none from a buffer that is longer than drivers make them.
std::span<uint32_t> copy_pages(const GuestBuffer& buffer,
                               std::array<uint32_t, BalloonPages::kMaxPages>& into) {
  const size_t count = buffer.length / sizeof(uint32_t);
  if (buffer.length > sizeof into) return {};
  std::memcpy(into.data(), buffer.host, count * sizeof(uint32_t));
  return std::span(into).first(count);
}

}  // namespace

VirtioBalloon::VirtioBalloon(EventLoop& loop, const Options& options)
    : loop_(loop),
      deflate_on_oom_(options.deflate_on_oom),
      free_page_reporting_(options.free_page_reporting),
      state_{.target_pages = pages_of(options.size)} {}

VirtioBalloon::~VirtioBalloon() { reset(); }

void VirtioBalloon::resize(uint64_t size) noexcept {
  const uint32_t pages = pages_of(size);
  if (shared(state_.target_pages).exchange(pages) != pages) transport().config_changed();
}

uint64_t VirtioBalloon::actual_size() const noexcept {
  return uint64_t{load_shared(state_.actual_pages)} * BalloonPages::kPageSize;
}

uint64_t VirtioBalloon::features() const noexcept {
  // With PAGE_POISON a guest that fills free pages can report them, too: with zeros, which is what
  // comes back, or with something else, which report() respects.
  return kFeatureStatistics | virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex |
         (deflate_on_oom_ ? kFeatureDeflateOnOom : 0) |
         (free_page_reporting_ ? kFeatureReporting | kFeaturePagePoison : 0);
}

std::vector<uint16_t> VirtioBalloon::queue_sizes() const {
  std::vector<uint16_t> sizes{kQueueSize, kQueueSize, kQueueSize};
  if (free_page_reporting_) sizes.insert(sizes.end(), {kReportingQueueSize, kReportingQueueSize});
  return sizes;
}

uint32_t VirtioBalloon::config_size() const noexcept { return sizeof(Config); }

void VirtioBalloon::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const Config config{.num_pages = load_shared(state_.target_pages),
                      .actual = load_shared(state_.actual_pages),
                      .free_page_hint_command = 0,
                      .poison_value = load_shared(state_.poison)};
  copy_config(config, offset, data);
}

void VirtioBalloon::write_config(uint32_t offset, std::span<const uint8_t> data) noexcept {
  if (data.size() != sizeof(uint32_t)) return;
  if (offset == kActualOffset) shared(state_.actual_pages) = load<uint32_t>(data);
  if (offset == kPoisonOffset) shared(state_.poison) = load<uint32_t>(data);
}

void VirtioBalloon::activate(const Activation& activation) {
  memory_ = &activation.memory;
  poisons_ = (activation.features & kFeaturePagePoison) != 0;
  pages_.emplace(activation.memory);
  serve(activation, kInflateQueue, [this](const auto& chain) { return inflate(chain); });
  serve(activation, kDeflateQueue, [this](const auto& chain) { return deflate(chain); });
  const bool has_statistics = (activation.features & kFeatureStatistics) != 0;
  const VirtqueueSetup* statistics = activation.queue(kStatisticsQueue);
  if (has_statistics && statistics != nullptr) {
    auto queue = std::make_unique<BalloonStatisticsQueue>(
        loop_, activation, *statistics, transport(), statistics_, state_.statistics_buffer);
    const std::lock_guard lock(statistics_mutex_);
    statistics_queue_ = std::move(queue);
  }
  if ((activation.features & kFeatureReporting) == 0) return;
  // §5.5.2 gives the reporting queue the number 4. Linux numbers queues without gaps for what was
  // not negotiated, and 3 belongs to a feature that is never offered.
  for (uint16_t i = has_statistics ? kStatisticsQueue + 1 : kStatisticsQueue; i <= kReportingQueue;
       ++i) {
    serve(activation, i, [this](const auto& chain) { return report(chain); });
  }
}

void VirtioBalloon::serve(const Activation& activation, uint16_t index,
                          QueueServer::Handler handler) {
  const VirtqueueSetup* setup = activation.queue(index);
  if (setup == nullptr) return;
  servers_.push_back(std::make_unique<QueueServer>(loop_, activation, *setup, transport(),
                                                   kRequestsPerTurn, std::move(handler)));
}

bool VirtioBalloon::try_reset(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress() && !pages_) return true;
  return teardown_.run(
      loop_, [this] { stop_queues(); }, deadline);
}

void VirtioBalloon::stop_queues() noexcept {
  servers_.clear();
  std::unique_ptr<BalloonStatisticsQueue> queue;
  {
    const std::lock_guard lock(statistics_mutex_);
    queue = std::move(statistics_queue_);
  }
  queue.reset();
  pages_.reset();
  shared(state_.actual_pages) = 0;
  shared(state_.poison) = 0;
  state_.statistics_buffer.reset();
}

uint32_t VirtioBalloon::inflate(const DescriptorChain& chain) noexcept {
  std::array<uint32_t, BalloonPages::kMaxPages> copy;
  for (const GuestBuffer& buffer : chain.readable) {
    const std::span<uint32_t> pages = copy_pages(buffer, copy);
    (void)pages_->inflate(pages);
    shared(state_.inflated_pages) += pages.size();
  }
  return 0;
}

uint32_t VirtioBalloon::deflate(const DescriptorChain& chain) noexcept {
  std::array<uint32_t, BalloonPages::kMaxPages> copy;
  for (const GuestBuffer& buffer : chain.readable) {
    const std::span<uint32_t> pages = copy_pages(buffer, copy);
    pages_->deflate(pages);
    shared(state_.deflated_pages) += pages.size();
  }
  return 0;
}

uint32_t VirtioBalloon::report(const DescriptorChain& chain) noexcept {
  // §5.5.6.7: reported pages keep their content or get the poison value. Zeros are the only value
  // that memory given back has.
  if (poisons_ && load_shared(state_.poison) != 0) return 0;
  for (const GuestBuffer& buffer : chain.writable) {
    shared(state_.reported_bytes) += memory_->discard(buffer.host, buffer.length);
  }
  return 0;
}

void VirtioBalloon::save(CborWriter& state) const {
  const std::vector<uint8_t> statistics = statistics_.entries();
  const std::optional<uint16_t> held = state_.statistics_buffer;
  state.map(held ? 9 : 8);
  state.field("target", load_shared(state_.target_pages));
  state.field("actual", state_.actual_pages);
  state.field("poison", state_.poison);
  state.field("inflated", state_.inflated_pages);
  state.field("deflated", state_.deflated_pages);
  state.field("reported", state_.reported_bytes);
  state.key("statistics").bytes(statistics);
  state.field("statisticsAge", statistics_.age_ns(monotonic_ns()));
  if (held) state.field("statisticsBuffer", *held);
}

void VirtioBalloon::restore(Fields& state) {
  state_ = {.target_pages = state["target"].narrow<uint32_t>(),
            .actual_pages = state["actual"].narrow<uint32_t>(),
            .poison = state["poison"].narrow<uint32_t>(),
            .inflated_pages = state["inflated"].number(UINT64_MAX),
            .deflated_pages = state["deflated"].number(UINT64_MAX),
            .reported_bytes = state["reported"].number(UINT64_MAX)};
  const std::vector<uint8_t> statistics = state["statistics"].bytes();
  const uint64_t now = monotonic_ns();
  const uint64_t age = std::min(state["statisticsAge"].number(UINT64_MAX), now);
  if (!statistics.empty()) statistics_.record(statistics, now - age);
  if (state.has("statisticsBuffer")) {
    state_.statistics_buffer =
        static_cast<uint16_t>(state["statisticsBuffer"].number(kQueueSize - 1));
  }
}

std::vector<Counter> VirtioBalloon::counters() const {
  const uint64_t now = monotonic_ns();
  std::vector<Counter> counters{
      {"target_bytes", uint64_t{load_shared(state_.target_pages)} * BalloonPages::kPageSize},
      {"actual_bytes", actual_size()},
      {"inflated_bytes", load_shared(state_.inflated_pages) * BalloonPages::kPageSize},
      {"deflated_bytes", load_shared(state_.deflated_pages) * BalloonPages::kPageSize},
      {"reported_bytes", load_shared(state_.reported_bytes)}};
  statistics_.append_to(counters, now);
  const std::lock_guard lock(statistics_mutex_);
  if (statistics_queue_ && statistics_.older_than(kStatisticsAgeNs, now)) {
    statistics_queue_->request();
  }
  return counters;
}

std::optional<DeviceOperation> VirtioBalloon::operation(std::string_view name, Fields& arguments) {
  if (name != "resize") return std::nullopt;
  return DeviceOperation{
      .run = [this, size = arguments["size"].number()](
                 CborWriter& /*answer*/, const Deadline& /*deadline*/) { resize(size); }};
}

std::vector<Counter> VirtioBalloon::status() const { return {{"ballooned", actual_size()}}; }

namespace {

struct BalloonSpec : DeviceSpec {
  explicit BalloonSpec(Fields& fields)
      : options{.size = fields["size"].number(),
                .deflate_on_oom = fields["deflateOnOom"].boolean(),
                .free_page_reporting = fields["freePageReporting"].boolean()} {}

  std::shared_ptr<VirtioDevice> make(const std::string& /*id*/,
                                     const DeviceContext& context) override {
    return std::make_shared<VirtioBalloon>(context.loop, options);
  }

  VirtioBalloon::Options options;
};

}  // namespace

DeviceKind balloon_kind() { return {"balloon", read_device_spec<BalloonSpec>}; }

}  // namespace tsvmm
