#include "virtio/block.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/bytes.h"
#include "core/error.h"
#include "virtio/block_protocol.h"
#include "virtio/block_queue.h"

namespace tsvmm {

VirtioBlock::VirtioBlock(std::unique_ptr<DiskImage> image, Options options)
    : options_(std::move(options)), image_(std::move(image)) {
  if (!std::has_single_bit(options_.queue_size) || options_.queue_size < 4 ||
      options_.queue_size > 32768) {
    throw Error("EINVAL", options_.id + ": queue size must be a power of two from 4 to 32768");
  }
  if (options_.num_queues == 0) throw Error("EINVAL", options_.id + ": a disk needs a queue");
  if (options_.serial.size() > kSerialSize) {
    throw Error("EINVAL", options_.id + ": the serial number is longer than 20 bytes");
  }
  for (uint16_t i = 0; i < options_.num_queues; ++i) {
    counters_.push_back(std::make_unique<BlockCounters>());
  }
  loops_.resize(options_.num_queues);
}

VirtioBlock::~VirtioBlock() {
  // A paused loop would keep the queues from ending.
  for (const auto& loop : loops_) {
    if (loop) loop->stop();
  }
  queues_.clear();
}

uint64_t VirtioBlock::features() const noexcept {
  uint64_t features = virtio_block::kFeatureSegMax | virtio_block::kFeatureBlockSize |
                      virtio_block::kFeatureFlush | virtio_block::kFeatureTopology |
                      virtio_block::kFeatureConfigWce | virtio_feature::kIndirectDescriptors |
                      virtio_feature::kEventIndex;
  if (options_.read_only) features |= virtio_block::kFeatureReadOnly;
  if (options_.num_queues > 1) features |= virtio_block::kFeatureMultiQueue;
  return features;
}

std::vector<uint16_t> VirtioBlock::queue_sizes() const {
  return std::vector<uint16_t>(options_.num_queues, options_.queue_size);
}

uint32_t VirtioBlock::config_size() const noexcept { return virtio_block::kConfigSize; }

void VirtioBlock::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const DiskLimits limits = image_->limits();
  const uint32_t logical = limits.logical_block_size;
  const uint32_t blocks = limits.physical_block_size / logical;
  virtio_block::Config config{};
  config.capacity = image_->size() / virtio_block::kSectorSize;
  // A request has two buffers besides its data: header and status.
  config.seg_max = options_.queue_size - 2U;
  config.blk_size = logical;
  config.physical_block_exp = static_cast<uint8_t>(std::countr_zero(blocks));
  config.min_io_size = static_cast<uint16_t>(std::min(blocks, 0xffffU));
  config.writeback = writeback_.load(std::memory_order_relaxed) ? 1 : 0;
  config.num_queues = options_.num_queues;
  std::array<uint8_t, sizeof config> bytes{};
  store(std::span<uint8_t>(bytes), config);
  std::copy_n(bytes.begin() + offset, data.size(), data.begin());
}

void VirtioBlock::write_config(uint32_t offset, std::span<const uint8_t> data) noexcept {
  if (offset == virtio_block::kWritebackOffset && data.size() == 1) writeback_ = (data[0] & 1) != 0;
}

void VirtioBlock::activate(const Activation& activation) {
  // A driver that knows neither flushes nor the switch expects completed writes to last (§5.2.6.2).
  if ((activation.features & (virtio_block::kFeatureFlush | virtio_block::kFeatureConfigWce)) == 0)
    writeback_ = false;
  const BlockContext context{
      *image_, host(), writeback_, options_.serial, options_.read_only, options_.protect_sector0};
  try {
    for (const VirtqueueSetup& setup : activation.queues) {
      auto& loop = loops_.at(setup.index);
      if (!loop) {
        loop = std::make_unique<EventLoop>(options_.id + "_q" + std::to_string(setup.index));
      }
      queues_.push_back(std::make_unique<BlockQueue>(context, activation, setup, *loop,
                                                     *counters_.at(setup.index)));
    }
  } catch (...) {
    reset();
    throw;
  }
}

void VirtioBlock::reset() noexcept {
  // A queue that ends waits for its loop, also on a machine that is deleted while it is paused.
  for (const auto& loop : loops_) {
    if (loop) loop->resume();
  }
  queues_.clear();
  writeback_ = true;
}

void VirtioBlock::pause() {
  for (const auto& queue : queues_) queue->pause();
  for (const auto& loop : loops_) {
    if (loop) loop->pause();
  }
}

void VirtioBlock::resume() {
  for (const auto& loop : loops_) {
    if (loop) loop->resume();
  }
  for (const auto& queue : queues_) queue->resume();
}

void VirtioBlock::resize(uint64_t bytes) {
  if (options_.read_only) throw Error("EROFS", options_.id + " is read-only");
  image_->resize(bytes);
  host().config_changed();
}

std::vector<Counter> VirtioBlock::counters() const { return summarize(counters_); }

}  // namespace tsvmm
