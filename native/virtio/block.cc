#include "virtio/block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/error.h"
#include "core/message.h"
#include "core/shared_member.h"
#include "core/thread.h"
#include "disk/open_image.h"
#include "virtio/block_protocol.h"
#include "virtio/block_queue.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {

namespace {

uint64_t offered_features(const DiskLimits& limits, const VirtioBlock::Options& options) {
  uint64_t features = virtio_block::kFeatureSegMax | virtio_block::kFeatureBlockSize |
                      virtio_block::kFeatureFlush | virtio_block::kFeatureTopology |
                      virtio_block::kFeatureConfigWce | virtio_feature::kIndirectDescriptors |
                      virtio_feature::kEventIndex;
  if (options.num_queues > 1) features |= virtio_block::kFeatureMultiQueue;
  if (options.read_only) return features | virtio_block::kFeatureReadOnly;
  if (!options.sparse) return features;
  if (limits.discard_granularity != 0) features |= virtio_block::kFeatureDiscard;
  if (limits.can_write_zeroes) features |= virtio_block::kFeatureWriteZeroes;
  return features;
}

/// What the driver is told of ranges that it discards or zeroes (virtio 1.2 §5.2.4).
void fill_range_limits(virtio_block::Config& config, const DiskLimits& limits, uint64_t features) {
  if ((features & virtio_block::kFeatureDiscard) != 0) {
    config.max_discard_sectors = virtio_block::kMaxDiscardSectors;
    config.max_discard_seg = virtio_block::kMaxSegments;
    config.discard_sector_alignment = limits.discard_granularity / virtio_block::kSectorSize;
  }
  if ((features & virtio_block::kFeatureWriteZeroes) != 0) {
    config.max_write_zeroes_sectors = virtio_block::kMaxWriteZeroesSectors;
    config.max_write_zeroes_seg = virtio_block::kMaxSegments;
    config.write_zeroes_may_unmap = 1;
  }
}

}  // namespace

VirtioBlock::VirtioBlock(std::unique_ptr<DiskImage> image, Options options)
    : options_(std::move(options)),
      image_(std::move(image)),
      features_(offered_features(image_->limits(), options_)) {
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

VirtioBlock::~VirtioBlock() { reset(); }

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
  config.writeback = load_shared(state_.writeback) ? 1 : 0;
  config.num_queues = options_.num_queues;
  fill_range_limits(config, limits, features_);
  copy_config(config, offset, data);
}

void VirtioBlock::write_config(uint32_t offset, std::span<const uint8_t> data) noexcept {
  if (offset != virtio_block::kWritebackOffset || data.size() != 1) return;
  shared(state_.writeback) = (data[0] & 1) != 0;
}

void VirtioBlock::activate(const Activation& activation) {
  // A driver that knows neither flushes nor the switch expects completed writes to last (§5.2.6.2).
  if ((activation.features & (virtio_block::kFeatureFlush | virtio_block::kFeatureConfigWce)) == 0)
    shared(state_.writeback) = false;
  const BlockContext context{*image_,
                             transport(),
                             errors_,
                             state_.writeback,
                             options_.serial,
                             options_.read_only,
                             options_.protect_sector0,
                             features_,
                             options_.rate_limiter.get()};
  const std::lock_guard lock(mutex_);
  for (const VirtqueueSetup& setup : activation.queues) {
    queues_.push_back(std::make_shared<BlockQueue>(context, activation, setup, loop_of(setup.index),
                                                   *counters_.at(setup.index)));
  }
  if (!std::exchange(told_engine_, true) && !queues_.empty()) {
    const std::string_view engine = queues_.front()->engine();
    if (!engine.empty()) transport().note("I/O by " + std::string(engine));
  }
}

EventLoop& VirtioBlock::loop_of(uint16_t queue) {
  auto& loop = loops_.at(queue);
  if (loop) return *loop;
  auto made = std::make_unique<EventLoop>(options_.id + "_q" + std::to_string(queue));
  if (queue < options_.queue_cpus.size()) {
    made->call([this, queue] {
      try {
        pin_current_thread(options_.queue_cpus[queue]);
      } catch (const Error& error) {
        transport().note("queue " + std::to_string(queue) +
                         " runs on any host CPU: " + error.what());
      }
    });
  }
  loop = std::move(made);
  return *loop;
}

bool VirtioBlock::try_reset(const Deadline& deadline) noexcept {
  const std::lock_guard lock(mutex_);
  // A machine may be deleted while it is paused.
  for (const auto& loop : loops_) {
    if (loop) loop->resume();
  }
  for (const auto& queue : queues_) queue->hold(BlockQueue::Hold::kEnd);
  for (const auto& queue : queues_) {
    if (!queue->try_end(deadline)) return false;
  }
  queues_.clear();
  state_ = {};
  return true;
}

void VirtioBlock::begin_pause() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& queue : queues_) queue->hold(BlockQueue::Hold::kPause);
}

bool VirtioBlock::wait_paused(const Deadline& deadline) {
  const std::lock_guard lock(mutex_);
  for (const auto& queue : queues_) {
    if (!queue->wait_still(deadline)) return false;
  }
  paused_ = true;
  for (const auto& loop : loops_) {
    if (loop) loop->begin_pause();
  }
  return std::ranges::all_of(
      loops_, [&](const auto& loop) { return !loop || loop->wait_paused(deadline); });
}

void VirtioBlock::resume() noexcept {
  const std::lock_guard lock(mutex_);
  paused_ = false;
  for (const auto& loop : loops_) {
    if (loop) loop->resume();
  }
  for (const auto& queue : queues_) queue->release(BlockQueue::Hold::kPause);
}

void VirtioBlock::save(CborWriter& state) const {
  state.map(1).key("writeback").boolean(state_.writeback);
}

void VirtioBlock::restore(Fields& state) { state_.writeback = state["writeback"].boolean(); }

/// On a thread of the device's: closing writes what the image's format has kept back, and to close
/// a file on some file systems is to wait for what was written to it.
bool VirtioBlock::try_close(const Deadline& deadline) noexcept {
  if (!closing_.in_progress() && !image_) return true;
  const auto close = [this] { image_.reset(); };
  try {
    return closing_.run(loop_of(0), close, deadline);
  } catch (const Error&) {
    close();  // There can be no thread.
    return true;
  }
}

void VirtioBlock::resize(uint64_t bytes, const Deadline& deadline) {
  if (options_.read_only) throw Error("EROFS", options_.id + " is read-only");
  // Any sector could become the last one then.
  if (options_.protect_sector0 && bytes < image_->size()) {
    throw Error("EPERM", options_.id + " cannot be made smaller unless its image type is given");
  }
  std::shared_ptr<Resizing> resizing;
  {
    const std::lock_guard lock(mutex_);
    if (resizing_ && !resizing_->job->wait(Deadline::now())) {
      throw Error("EBUSY", options_.id + ": its size is being changed");
    }
    // What was checked against the old size must not be done to the new one.
    hold_queues(deadline);
    begin_resizing(bytes);
    resizing = resizing_;
  }
  const bool done = resizing->job->wait(deadline);
  if (const std::lock_guard lock(mutex_); paused_) {
    loops_[0]->begin_pause();
    if (done) (void)loops_[0]->wait_paused(deadline);
  }
  if (!done) throw Error("ETIMEDOUT", options_.id + ": " + waits_for());
  if (resizing->failure) throw *resizing->failure;
}

void VirtioBlock::hold_queues(const Deadline& deadline) {
  for (const auto& queue : queues_) queue->hold(BlockQueue::Hold::kResize);
  for (const auto& queue : queues_) {
    if (queue->wait_still(deadline)) continue;
    for (const auto& held : queues_) held->release(BlockQueue::Hold::kResize);
    throw Error("ETIMEDOUT", options_.id + ": " + waits_for());
  }
}

void VirtioBlock::begin_resizing(uint64_t bytes) {
  auto resizing = std::make_shared<Resizing>();
  // A queue that is held for a pause serves nothing on a loop that runs.
  EventLoop& loop = loop_of(0);
  loop.resume();
  resizing->job = loop.begin(
      [this, bytes, held = queues_, resizing] { carry_out_resizing(bytes, held, *resizing); });
  resizing_ = std::move(resizing);
}

/// On the first loop's thread, so that only this disk waits for its store.
void VirtioBlock::carry_out_resizing(uint64_t bytes, const Queues& held,
                                     Resizing& resizing) noexcept {
  try {
    image_->resize(bytes);
  } catch (const Error& error) {
    resizing.failure = error;
  } catch (const std::exception& error) {
    resizing.failure = Error("ERR_TSVMM_INTERNAL", error.what());
  }
  for (const auto& queue : held) queue->release(BlockQueue::Hold::kResize);
  if (!resizing.failure) transport().config_changed();
}

std::vector<Counter> VirtioBlock::counters() const { return summarize(counters_); }

std::optional<DeviceOperation> VirtioBlock::operation(std::string_view name, Fields& arguments) {
  if (name != "resize") return std::nullopt;
  const auto run = [this, bytes = arguments["size"].number()](CborWriter& /*answer*/,
                                                              const Deadline& deadline) {
    resize(bytes, deadline);
  };
  return DeviceOperation{.exclusive = true, .run = run};
}

namespace {

using namespace std::string_view_literals;

/// The words of ImageFormat.
constexpr std::array kFormats{"raw"sv, "qcow2"sv, "vhd"sv, "vhdx"sv};

ImageLayer read_layer(Fields& fields) {
  return {fields["fd"].descriptor(), static_cast<ImageFormat>(fields["format"].choice(kFormats))};
}

std::vector<ImageLayer> read_layers(const Value& list) {
  std::vector<ImageLayer> layers;
  list.each([&](const Value& layer) { layers.push_back(layer.map(read_layer)); });
  return layers;
}

/// The host CPUs of each queue.
std::vector<std::vector<int>> read_queue_cpus(const Value& list) {
  std::vector<std::vector<int>> queues;
  list.each([&](const Value& cpus) {
    std::vector<int>& queue = queues.emplace_back();
    cpus.each([&](const Value& cpu) { queue.push_back(cpu.ordinal()); });
  });
  return queues;
}

struct BlockSpec : DeviceSpec {
  explicit BlockSpec(Fields& fields)
      : layers(read_layers(fields["layers"])),
        image{.read_only = fields["readonly"].boolean(),
              .direct = fields["direct"].boolean(),
              .sparse = fields["sparse"].boolean(),
              .engines = {.io_uring = !fields["disableIoUring"].boolean(),
                          .linux_aio = !fields["disableAio"].boolean()}},
        num_queues(fields["numQueues"].narrow<uint16_t>()),
        queue_size(fields["queueSize"].narrow<uint16_t>()),
        serial(fields["serial"].text()),
        protect_sector0(fields["protectSector0"].boolean()),
        queue_cpus(read_queue_cpus(fields["queueCpus"])),
        rate_limiter(read_rate_limiter(fields, "rateLimiter")) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    return std::make_shared<VirtioBlock>(
        open_named_image(id, context.cancellation),
        VirtioBlock::Options{.id = id,
                             .read_only = image.read_only,
                             .num_queues = num_queues,
                             .queue_size = queue_size,
                             .serial = serial,
                             .protect_sector0 = protect_sector0,
                             .sparse = image.sparse,
                             .queue_cpus = std::move(queue_cpus),
                             .rate_limiter = context.rate_limiters.get(rate_limiter)});
  }

  /// A failure has to say which disk is meant.
  std::unique_ptr<DiskImage> open_named_image(const std::string& id,
                                              const Cancellation& cancellation) {
    try {
      return open_image(std::move(layers), image, cancellation);
    } catch (const Error& error) {
      throw Error(error.code(), id + ": " + error.what());
    }
  }

  std::vector<ImageLayer> layers;
  ImageOptions image;
  uint16_t num_queues;
  uint16_t queue_size;
  std::string serial;
  bool protect_sector0;
  std::vector<std::vector<int>> queue_cpus;  ///< by queue; empty: any host CPU
  RateLimiterSpec rate_limiter;
};

}  // namespace

DeviceKind block_kind() { return {"block", read_device_spec<BlockSpec>}; }

}  // namespace tsvmm
