#include "virtio/balloon.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "core/bytes.h"
#include "core/message.h"
#include "core/monotonic.h"
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
      target_pages_(pages_of(options.size)) {}

VirtioBalloon::~VirtioBalloon() { reset(); }

void VirtioBalloon::resize(uint64_t size) noexcept {
  const uint32_t pages = pages_of(size);
  if (target_pages_.exchange(pages) != pages) transport().config_changed();
}

uint64_t VirtioBalloon::actual_size() const noexcept {
  return uint64_t{actual_pages_.load()} * BalloonPages::kPageSize;
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
  const Config config{.num_pages = target_pages_,
                      .actual = actual_pages_,
                      .free_page_hint_command = 0,
                      .poison_value = poison_};
  copy_config(config, offset, data);
}

void VirtioBalloon::write_config(uint32_t offset, std::span<const uint8_t> data) noexcept {
  if (data.size() != sizeof(uint32_t)) return;
  if (offset == kActualOffset) actual_pages_ = load<uint32_t>(data);
  if (offset == kPoisonOffset) poison_ = load<uint32_t>(data);
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
    auto queue =
        std::make_unique<BalloonStatisticsQueue>(loop_, activation, *statistics, transport(),
                                                 statistics_, std::exchange(held_elsewhere_, {}));
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
  actual_pages_ = 0;
  poison_ = 0;
}

uint32_t VirtioBalloon::inflate(const DescriptorChain& chain) noexcept {
  std::array<uint32_t, BalloonPages::kMaxPages> copy;
  for (const GuestBuffer& buffer : chain.readable) {
    const std::span<uint32_t> pages = copy_pages(buffer, copy);
    (void)pages_->inflate(pages);
    inflated_pages_ += pages.size();
  }
  return 0;
}

uint32_t VirtioBalloon::deflate(const DescriptorChain& chain) noexcept {
  std::array<uint32_t, BalloonPages::kMaxPages> copy;
  for (const GuestBuffer& buffer : chain.readable) {
    const std::span<uint32_t> pages = copy_pages(buffer, copy);
    pages_->deflate(pages);
    deflated_pages_ += pages.size();
  }
  return 0;
}

uint32_t VirtioBalloon::report(const DescriptorChain& chain) noexcept {
  // §5.5.6.7: reported pages keep their content or get the poison value. Zeros are the only value
  // that memory given back has.
  if (poisons_ && poison_ != 0) return 0;
  for (const GuestBuffer& buffer : chain.writable) {
    reported_bytes_ += memory_->discard(buffer.host, buffer.length);
  }
  return 0;
}

void VirtioBalloon::save(CborWriter& state) const {
  const std::vector<uint8_t> statistics = statistics_.entries();
  const std::lock_guard lock(statistics_mutex_);
  const auto held = statistics_queue_ ? statistics_queue_->held() : std::nullopt;
  state.map(held ? 9 : 8);
  state.field("target", target_pages_.load());
  state.field("actual", actual_pages_.load());
  state.field("poison", poison_.load());
  state.field("inflated", inflated_pages_.load());
  state.field("deflated", deflated_pages_.load());
  state.field("reported", reported_bytes_.load());
  state.key("statistics").bytes(statistics);
  state.field("statisticsAge", statistics_.age_ns(monotonic_ns()));
  if (held) state.field("statisticsBuffer", *held);
}

void VirtioBalloon::restore(Fields& state) {
  target_pages_ = state["target"].narrow<uint32_t>();
  actual_pages_ = state["actual"].narrow<uint32_t>();
  poison_ = state["poison"].narrow<uint32_t>();
  inflated_pages_ = state["inflated"].number(UINT64_MAX);
  deflated_pages_ = state["deflated"].number(UINT64_MAX);
  reported_bytes_ = state["reported"].number(UINT64_MAX);
  const std::vector<uint8_t> statistics = state["statistics"].bytes();
  const uint64_t now = monotonic_ns();
  const uint64_t age = std::min(state["statisticsAge"].number(UINT64_MAX), now);
  if (!statistics.empty()) statistics_.record(statistics, now - age);
  if (state.has("statisticsBuffer")) {
    held_elsewhere_ = static_cast<uint16_t>(state["statisticsBuffer"].number(kQueueSize - 1));
  }
}

std::vector<Counter> VirtioBalloon::counters() const {
  const uint64_t now = monotonic_ns();
  std::vector<Counter> counters{
      {"target_bytes", uint64_t{target_pages_.load()} * BalloonPages::kPageSize},
      {"actual_bytes", actual_size()},
      {"inflated_bytes", inflated_pages_ * BalloonPages::kPageSize},
      {"deflated_bytes", deflated_pages_ * BalloonPages::kPageSize},
      {"reported_bytes", reported_bytes_}};
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
