#include "virtio/block_queue.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "device/monotonic.h"
#include "virtio/block.h"

namespace tsvmm {
namespace {

/// Times that the queue is looked at before the loop gets its turn (to be paused, for one).
constexpr int kRoundsPerWake = 16;
/// A bound for what many requests of many buffers may make us allocate: 1 MiB a queue.
constexpr size_t kMaxExtraBuffers = 65536;

}  // namespace

BlockQueue::BlockQueue(const BlockContext& context, const Activation& activation,
                       const VirtqueueSetup& setup, EventLoop& loop, BlockCounters& counters)
    : context_(context),
      loop_(loop),
      counters_(counters),
      doorbell_(*setup.doorbell),
      interrupt_(*setup.interrupt),
      queue_(activation.memory, setup.rings, activation.features),
      disk_(context.image.make_queue(queue_.size())),
      requests_(queue_.size()) {
  free_.reserve(requests_.size());
  for (size_t i = requests_.size(); i-- > 0;) free_.push_back(static_cast<uint16_t>(i));
  if (disk_->completion_fd() >= 0) {
    loop_.add(disk_->completion_fd(), EPOLLIN, [this](uint32_t) { serve(); });
  }
  try {
    loop_.add(doorbell_.fd(), EPOLLIN, [this](uint32_t) { serve(); });
  } catch (...) {
    if (disk_->completion_fd() >= 0) loop_.remove(disk_->completion_fd());
    throw;
  }
  // A look of our own to begin with: the driver may have made requests available without ringing.
  doorbell_.signal();
}

BlockQueue::~BlockQueue() {
  loop_.remove(doorbell_.fd());
  if (disk_->completion_fd() >= 0) loop_.remove(disk_->completion_fd());
  drain();
}

void BlockQueue::pause() noexcept {
  loop_.call([this] {
    loop_.modify(doorbell_.fd(), 0);
    drain();
  });
}

void BlockQueue::resume() noexcept {
  loop_.call([this] {
    if (failure_ == nullptr) loop_.modify(doorbell_.fd(), EPOLLIN);
  });
}

void BlockQueue::serve() noexcept {
  (void)doorbell_.consume();
  for (int round = 0; round < kRoundsPerWake; ++round) {
    queue_.disable_notifications();
    const Taken taken = take_requests();
    const bool submitted = disk_->submit();
    reap();
    publish();
    if (taken == Taken::kBroken) return fail(failure_);
    if (!submitted) break;
    // Full: the next completion brings us back, unless it has come already.
    if (taken == Taken::kFull && free_.empty()) return;
    if (taken == Taken::kAll && !queue_.enable_notifications()) return;
  }
  doorbell_.signal();  // There is more to do: come back after the loop's other handlers.
}

BlockQueue::Taken BlockQueue::take_requests() noexcept {
  if (failure_ != nullptr) return Taken::kBroken;
  batch_time_ = 0;
  DescriptorChain chain;
  while (!free_.empty()) {
    const SplitQueue::Pop popped = queue_.pop(chain);
    if (popped == SplitQueue::Pop::kEmpty) return Taken::kAll;
    if (popped == SplitQueue::Pop::kBroken) {
      failure_ = queue_.error();
      return Taken::kBroken;
    }
    if (!has_room(chain)) {
      queue_.undo_pop();
      return Taken::kFull;
    }
    BlockRequest& request = requests_[free_.back()];
    failure_ = request.parse(chain);
    if (failure_ != nullptr) return Taken::kBroken;
    free_.pop_back();
    extra_buffers_ += request.extra;
    begin(request);
  }
  return Taken::kFull;
}

bool BlockQueue::has_room(const DescriptorChain& chain) const noexcept {
  return extra_buffers_ == 0 ||
         extra_buffers_ + BlockRequest::extra_buffers(chain) <= kMaxExtraBuffers;
}

void BlockQueue::begin(BlockRequest& request) noexcept {
  if (batch_time_ == 0) batch_time_ = monotonic_ns();
  request.started = batch_time_;
  std::optional<uint8_t> status;
  switch (request.header.type) {
    case virtio_block::kRequestIn:
      status = begin_transfer(request, DiskOperation::Kind::kRead);
      break;
    case virtio_block::kRequestOut:
      status = begin_transfer(request, DiskOperation::Kind::kWrite);
      break;
    case virtio_block::kRequestFlush:
      static_cast<DiskOperation&>(request) = {};
      request.kind = DiskOperation::Kind::kFlush;
      disk_->start(request);
      break;
    case virtio_block::kRequestGetId:
      status = give_id(request);
      break;
    default:
      status = virtio_block::kStatusUnsupported;
  }
  if (status) complete(request, *status);
}

std::optional<uint8_t> BlockQueue::begin_transfer(BlockRequest& request,
                                                  DiskOperation::Kind kind) noexcept {
  const uint64_t capacity = context_.image.size() / virtio_block::kSectorSize;
  const uint64_t sector = request.header.sector;
  const uint64_t sectors = request.data_length / virtio_block::kSectorSize;
  if (request.data_length % virtio_block::kSectorSize != 0 || sectors > capacity ||
      sector > capacity - sectors) {
    return virtio_block::kStatusIoError;
  }
  const bool is_write = kind == DiskOperation::Kind::kWrite;
  if (is_write && (context_.read_only || (context_.protect_sector0 && sector == 0))) {
    return virtio_block::kStatusIoError;
  }
  if (sectors == 0) return virtio_block::kStatusOk;
  static_cast<DiskOperation&>(request) = {
      .kind = kind,
      // Write-through: nothing is done before it is on the disk (virtio 1.2 §5.2.6.2).
      .durable = is_write && !context_.writeback.load(std::memory_order_relaxed),
      .offset = sector * virtio_block::kSectorSize,
      .length = request.data_length,
      .buffers = request.data};
  disk_->start(request);
  return std::nullopt;
}

uint8_t BlockQueue::give_id(BlockRequest& request) const noexcept {
  // Padded with zeros, without one at the end if all 20 bytes are used (virtio 1.2 §5.2.6.1).
  std::array<char, VirtioBlock::kSerialSize> id{};
  std::copy_n(context_.serial.begin(), std::min(id.size(), context_.serial.size()), id.begin());
  for (const iovec& buffer : request.data) {
    const size_t size = std::min(buffer.iov_len, id.size() - request.data_written);
    std::memcpy(buffer.iov_base, id.data() + request.data_written, size);
    request.data_written += static_cast<uint32_t>(size);
  }
  return virtio_block::kStatusOk;
}

void BlockQueue::reap() noexcept {
  uint64_t now = 0;
  while (DiskOperation* operation = disk_->next_completed()) {
    auto& request = static_cast<BlockRequest&>(*operation);
    if (request.error != 0) {
      complete(request, virtio_block::kStatusIoError);
      continue;
    }
    if (now == 0) now = monotonic_ns();
    count(request, now);
    if (request.kind == DiskOperation::Kind::kRead) {
      // The used length has 32 bits, which a chain of overlapping buffers can exceed.
      request.data_written =
          static_cast<uint32_t>(std::min<uint64_t>(request.data_length, UINT32_MAX - 1));
    }
    complete(request, virtio_block::kStatusOk);
  }
}

void BlockQueue::count(const BlockRequest& request, uint64_t now) noexcept {
  if (request.kind == DiskOperation::Kind::kFlush) return;
  const bool is_read = request.kind == DiskOperation::Kind::kRead;
  (is_read ? counters_.reads : counters_.writes).count(request.data_length, now - request.started);
}

void BlockQueue::complete(BlockRequest& request, uint8_t status) noexcept {
  extra_buffers_ -= request.extra;
  queue_.push_used(request.head, request.answer(status));
  free_.push_back(static_cast<uint16_t>(&request - requests_.data()));
}

void BlockQueue::publish() noexcept {
  if (queue_.publish()) interrupt_.trigger();
}

void BlockQueue::drain() noexcept {
  while (free_.size() < requests_.size()) {
    disk_->wait();
    reap();
  }
  publish();
}

void BlockQueue::fail(const char* reason) noexcept {
  loop_.modify(doorbell_.fd(), 0);
  context_.host.failed(reason);
}

}  // namespace tsvmm
