#include "virtio/net_counters.h"

namespace tsvmm {
namespace {

/// For a field that only this thread writes.
void add_to(std::atomic<uint64_t>& field, uint64_t value) {
  field.store(field.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

struct Sum {
  uint64_t bytes = 0;
  uint64_t frames = 0;
  uint64_t drops = 0;
  uint64_t batches = 0;

  void add(const NetCounters::Direction& direction) {
    bytes += direction.bytes.load(std::memory_order_relaxed);
    frames += direction.frames.load(std::memory_order_relaxed);
    drops += direction.drops.load(std::memory_order_relaxed);
    batches += direction.batches.load(std::memory_order_relaxed);
  }
};

}  // namespace

void NetCounters::Direction::frame(uint64_t byte_count) noexcept {
  add_to(bytes, byte_count);
  add_to(frames, 1);
}

void NetCounters::Direction::drop() noexcept { add_to(drops, 1); }

void NetCounters::Direction::batch() noexcept { add_to(batches, 1); }

std::vector<Counter> summarize(const std::vector<std::unique_ptr<NetCounters>>& pairs) {
  Sum received;
  Sum sent;
  for (const auto& pair : pairs) {
    received.add(pair->received);
    sent.add(pair->sent);
  }
  return {{"rx_bytes", received.bytes}, {"rx_frames", received.frames},
          {"rx_drops", received.drops}, {"rx_batches", received.batches},
          {"tx_bytes", sent.bytes},     {"tx_frames", sent.frames},
          {"tx_drops", sent.drops},     {"tx_batches", sent.batches}};
}

}  // namespace tsvmm
