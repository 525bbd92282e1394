#include "virtio/block_queue.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/monotonic.h"

namespace tsvmm {
namespace {

/// What is taken from the ring before it is handed on: enough to share the cost of a system call,
/// and few enough that the driver prepares its next requests meanwhile.
constexpr int kOperationsPerTurn = 8;
/// The same with adjacent requests, many of which are one operation, and with large ones.
constexpr int kRequestsPerTurn = 32;
constexpr uint64_t kBytesPerTurn = 512UL * 1024;
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
      queue_(activation.memory, setup, activation.features),
      disk_(context.image.make_queue(queue_.size())),
      merger_(*disk_),
      requests_(queue_.size()) {
  free_.reserve(requests_.size());
  for (size_t i = requests_.size(); i-- > 0;) free_.push_back(static_cast<uint16_t>(i));
  if (context_.limiter != nullptr) throttle_timer_.emplace();
  try {
    for (const int fd : {disk_->completion_fd(), throttle_fd()}) {
      if (fd < 0) continue;
      loop_.add(fd, io::kReadable, [this](IoEvents) {
        serve();
        settle();
      });
    }
    loop_.add(doorbell_.fd(), io::kReadable, [this](IoEvents) {
      (void)doorbell_.consume();
      serve();
      settle();
    });
  } catch (...) {
    for (const int fd : {disk_->completion_fd(), throttle_fd()}) {
      if (fd >= 0) loop_.remove(fd);
    }
    throw;
  }
  // A look of our own to begin with: the driver may have made requests available without ringing.
  doorbell_.signal();
}

BlockQueue::~BlockQueue() { (void)try_end(Deadline::never()); }

void BlockQueue::hold(Hold reason) noexcept {
  const std::lock_guard lock(mutex_);
  const bool held = holds_ != 0;
  holds_ |= static_cast<uint8_t>(reason);
  // One more reason changes nothing for the loop's thread. So once the queue is held for its end
  // nothing is posted any more that could run after it is gone.
  if (held || std::exchange(apply_pending_, true)) return;
  loop_.post([this] { apply_holds(); });
}

void BlockQueue::release(Hold reason) noexcept {
  const std::lock_guard lock(mutex_);
  holds_ &= static_cast<uint8_t>(~static_cast<uint8_t>(reason));
  if (holds_ != 0) return;
  still_ = false;
  if (std::exchange(apply_pending_, true)) return;
  loop_.post([this] { apply_holds(); });
}

bool BlockQueue::wait_still(const Deadline& deadline) noexcept {
  std::unique_lock lock(mutex_);
  return deadline.wait(lock, changed_, [this] { return still_; });
}

bool BlockQueue::try_end(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress()) {
    if (!disk_) return true;
    hold(Hold::kEnd);
    if (!wait_still(deadline)) return false;
  }
  const auto work = [this] {
    for (const int fd : {doorbell_.fd(), disk_->completion_fd(), throttle_fd()}) {
      if (fd >= 0) loop_.remove(fd);
    }
    // The disk's queue belongs to the loop's thread.
    disk_.reset();
  };
  return teardown_.run(loop_, work, deadline);
}

void BlockQueue::apply_holds() noexcept {
  {
    const std::lock_guard lock(mutex_);
    apply_pending_ = false;
    takes_ = holds_ == 0;
  }
  if (failure_ == nullptr) {
    loop_.modify(doorbell_.fd(), takes_ ? io::kReadable : 0U);
    if (takes_) doorbell_.signal();  // It may have been silenced by the hold.
  }
  settle();
}

/// On a queue that takes nothing: announces that it stands still, as soon as that is so.
void BlockQueue::settle() noexcept {
  if (takes_) return;
  bool ended = true;
  while (in_flight() != 0 && ended) {
    disk_->submit();
    ended = reap();
  }
  publish();
  if (in_flight() != 0) {
    if (disk_->needs_submit()) settle_later();
    return;
  }
  const std::lock_guard lock(mutex_);
  if (holds_ == 0) return;
  still_ = true;
  changed_.notify_all();
}

/// What waits to be handed to the host, which no doorbell brings to a held queue.
void BlockQueue::settle_later() noexcept {
  if (std::exchange(settle_pending_, true)) return;
  loop_.post([this] {
    settle_pending_ = false;
    settle();
  });
}

/// Goes on until there is nothing to do, or somebody else wants the loop.
void BlockQueue::serve() noexcept {
  if (throttle_timer_) throttle_timer_->consume();
  poll_.woken();
  queue_.disable_notifications();
  do {
    const Look look = turn();
    if (look == Look::kBroken) return fail(failure_);
    if (look != Look::kWorked && !sleep_or_poll(look)) return;
  } while (!loop_.is_wanted());
  doorbell_.signal();  // Comes back after the loop's other tasks.
}

BlockQueue::Look BlockQueue::turn() noexcept {
  const Look look = takes_ ? take_requests() : Look::kFull;
  disk_->submit();
  reap();
  publish();
  // What the host could not take, and what follows on something that has ended, is work.
  return disk_->needs_submit() && look != Look::kBroken ? Look::kWorked : look;
}

/// False if the loop is to sleep.
bool BlockQueue::sleep_or_poll(Look last) noexcept {
  const bool takes = last == Look::kNothing;
  const auto driver_ready = [this] { return queue_.has_available() || loop_.is_wanted(); };
  const auto disk_ready = [this] { return disk_->completions_pending() || loop_.is_wanted(); };
  if (poll_.wait(in_flight(), takes, driver_ready, disk_ready)) return true;
  if (!takes || !queue_.enable_notifications()) return false;
  queue_.disable_notifications();
  return true;
}

BlockQueue::Look BlockQueue::take_requests() noexcept {
  batch_time_ = 0;
  Look look = Look::kWorked;
  Batch batch;
  for (int requests = 0; requests < kRequestsPerTurn && batch.operations < kOperationsPerTurn &&
                         batch.bytes < kBytesPerTurn;
       ++requests) {
    look = take_one(batch);
    if (look != Look::kWorked) {
      // Only the first poll that finds nothing counts.
      if (requests != 0 && look != Look::kBroken) look = Look::kWorked;
      break;
    }
  }
  merger_.flush();
  return look;
}

BlockQueue::Look BlockQueue::take_one(Batch& batch) noexcept {
  if (failure_ != nullptr) return Look::kBroken;
  if (free_.empty()) return Look::kFull;
  DescriptorChain chain;
  const SplitQueue::Pop popped = queue_.pop(chain);
  if (popped == SplitQueue::Pop::kEmpty) return Look::kNothing;
  if (popped == SplitQueue::Pop::kBroken) {
    failure_ = queue_.error();
    return Look::kBroken;
  }
  if (!has_room(chain)) {
    queue_.undo_pop();
    return Look::kFull;
  }
  BlockRequest& request = requests_[free_.back()];
  failure_ = request.parse(chain);
  if (failure_ != nullptr) return Look::kBroken;
  if (batch_time_ == 0) batch_time_ = monotonic_ns();
  if (is_throttled(request)) {
    queue_.undo_pop();
    return Look::kThrottled;
  }
  free_.pop_back();
  poll_.request_taken();
  extra_buffers_ += request.extra;
  request.started = batch_time_;
  if (const auto status = prepare(context_, request)) {
    complete(request, *status);
  } else {
    batch.bytes += request.transfer_size();
    if (merger_.add(request)) ++batch.operations;
  }
  return Look::kWorked;
}

bool BlockQueue::has_room(const DescriptorChain& chain) const noexcept {
  return extra_buffers_ == 0 ||
         extra_buffers_ + BlockRequest::extra_buffers(chain) <= kMaxExtraBuffers;
}

bool BlockQueue::is_throttled(const BlockRequest& request) noexcept {
  if (context_.limiter == nullptr || request.header.type == virtio_block::kRequestGetId)
    return false;
  const uint64_t wait_ns = context_.limiter->admit(request.transfer_size(), batch_time_);
  if (wait_ns == 0) return false;
  throttle_timer_->start_after(wait_ns);
  return true;
}

/// True if something has ended.
bool BlockQueue::reap() noexcept {
  end_time_ = 0;
  bool any = false;
  while (DiskOperation* operation = disk_->next_completed()) {
    end_operation(*operation);
    any = true;
  }
  return any;
}

void BlockQueue::end_operation(DiskOperation& operation) noexcept {
  if (BlockMerge* merge = merger_.merge_of(operation)) {
    end_merge(*merge);
  } else {
    end_request(static_cast<BlockRequest&>(operation));
  }
}

void BlockQueue::end_merge(BlockMerge& merge) noexcept {
  for (BlockRequest* request : merge.members()) {
    if (merge.error == 0) {
      request->error = 0;
      end_request(*request);
    } else {
      // Only those that fail by themselves fail.
      disk_->start(*request);
    }
  }
  merger_.release(merge);
}

void BlockQueue::end_request(BlockRequest& request) noexcept {
  if (request.error != 0) {
    counters_.count_error(request.kind);
    context_.errors.report(request.kind, request.error, context_.transport);
    return complete(request, virtio_block::kStatusIoError);
  }
  if (request.ranges && prepare_next_range(request)) {
    disk_->start(request);
    return;
  }
  if (end_time_ == 0) end_time_ = monotonic_ns();
  counters_.count(request.kind, request.ranges ? request.ranges->size : request.transfer_size(),
                  end_time_ - request.started);
  if (request.kind == DiskOperation::Kind::kRead) {
    // The used length has 32 bits, which a chain of overlapping buffers can exceed.
    request.data_written =
        static_cast<uint32_t>(std::min<uint64_t>(request.data_length, UINT32_MAX - 1));
  }
  complete(request, virtio_block::kStatusOk);
}

void BlockQueue::complete(BlockRequest& request, uint8_t status) noexcept {
  extra_buffers_ -= request.extra;
  queue_.push_used(request.head, request.answer(status));
  free_.push_back(static_cast<uint16_t>(&request - requests_.data()));
  poll_.request_returned();
}

void BlockQueue::publish() noexcept {
  if (queue_.publish()) interrupt_.trigger();
}

void BlockQueue::fail(const char* reason) noexcept {
  loop_.modify(doorbell_.fd(), 0);
  context_.transport.failed(reason);
}

}  // namespace tsvmm
