#include "virtio/balloon_statistics.h"

#include "core/bytes.h"
#include "core/monotonic.h"
#include "virtio/chain_bytes.h"

namespace tsvmm {
namespace {

/// By tag (virtio 1.2 §5.5.6.4; those from 10 on are of later drafts).
constexpr std::array<const char*, BalloonStatistics::kTags> kNames{"swap_in_bytes",
                                                                   "swap_out_bytes",
                                                                   "major_faults",
                                                                   "minor_faults",
                                                                   "free_bytes",
                                                                   "total_bytes",
                                                                   "available_bytes",
                                                                   "disk_cache_bytes",
                                                                   "hugetlb_allocations",
                                                                   "hugetlb_failures",
                                                                   "oom_kills",
                                                                   "allocation_stalls",
                                                                   "scanned_by_background",
                                                                   "scanned_by_allocations",
                                                                   "reclaimed_by_background",
                                                                   "reclaimed_by_allocations"};

/// More than any driver has to say.
constexpr size_t kMaxBytes = 64 * BalloonStatistics::kEntrySize;
constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace

void BalloonStatistics::record(std::span<const uint8_t> entries, uint64_t now_ns) noexcept {
  const std::lock_guard lock(mutex_);
  for (; entries.size() >= kEntrySize; entries = entries.subspan(kEntrySize)) {
    const auto tag = load<uint16_t>(entries);
    if (tag < kTags) values_[tag] = load<uint64_t>(entries, sizeof tag);
  }
  recorded_ns_ = now_ns;
}

std::vector<uint8_t> BalloonStatistics::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<uint8_t> entries;
  for (uint16_t tag = 0; tag < kTags; ++tag) {
    if (!values_[tag]) continue;
    entries.resize(entries.size() + kEntrySize);
    const auto entry = std::span(entries).last(kEntrySize);
    store(entry, tag);
    store(entry, *values_[tag], sizeof tag);
  }
  return entries;
}

uint64_t BalloonStatistics::age_ns(uint64_t now_ns) const {
  const std::lock_guard lock(mutex_);
  return recorded_ns_ ? now_ns - *recorded_ns_ : 0;
}

void BalloonStatistics::append_to(std::vector<Counter>& counters, uint64_t now_ns) const {
  const std::lock_guard lock(mutex_);
  if (!recorded_ns_) return;
  counters.push_back({"statistics_age_ms", (now_ns - *recorded_ns_) / kNsPerMs});
  for (size_t tag = 0; tag < kTags; ++tag) {
    if (values_[tag]) counters.push_back({kNames[tag], *values_[tag]});
  }
}

bool BalloonStatistics::older_than(uint64_t age_ns, uint64_t now_ns) const {
  const std::lock_guard lock(mutex_);
  return !recorded_ns_ || now_ns - *recorded_ns_ > age_ns;
}

BalloonStatisticsQueue::BalloonStatisticsQueue(EventLoop& loop, const Activation& activation,
                                               const VirtqueueSetup& setup,
                                               VirtioTransport& transport,
                                               BalloonStatistics& statistics,
                                               std::optional<uint16_t>& held)
    : loop_(loop),
      transport_(transport),
      statistics_(statistics),
      doorbell_(*setup.doorbell),
      interrupt_(*setup.interrupt),
      queue_(activation.memory, setup, activation.features),
      held_(held) {
  loop_.add(doorbell_.fd(), io::kReadable, [this](IoEvents) { serve(); });
  doorbell_.signal();
}

BalloonStatisticsQueue::~BalloonStatisticsQueue() { loop_.remove(doorbell_.fd()); }

void BalloonStatisticsQueue::request() noexcept {
  if (!wanted_.exchange(true)) doorbell_.signal();
}

void BalloonStatisticsQueue::serve() noexcept {
  (void)doorbell_.consume();
  if (held_ && wanted_.exchange(false)) {
    queue_.push_used(*held_, 0);
    held_.reset();
    if (queue_.publish()) interrupt_.trigger();
  }
  if (!held_) take_buffer();
}

void BalloonStatisticsQueue::take_buffer() noexcept {
  DescriptorChain chain;
  SplitQueue::Pop popped;
  do {
    popped = queue_.pop(chain);
  } while (popped == SplitQueue::Pop::kEmpty && queue_.enable_notifications());
  if (popped == SplitQueue::Pop::kBroken) {
    transport_.failed(queue_.error());
    loop_.modify(doorbell_.fd(), 0);
  }
  if (popped != SplitQueue::Pop::kChain) return;
  std::array<uint8_t, kMaxBytes> bytes;
  const size_t size = gather(chain.readable, bytes);
  // What was asked for before this buffer came is in it.
  wanted_ = false;
  statistics_.record(std::span(bytes).first(size), monotonic_ns());
  held_ = chain.head;
}

}  // namespace tsvmm
