#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/event_loop.h"
#include "core/timer.h"
#include "disk/disk_queue.h"
#include "virtio/block_commands.h"
#include "virtio/block_counters.h"
#include "virtio/block_merger.h"
#include "virtio/block_poll.h"
#include "virtio/block_request.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Serves one queue of a block device on an event loop of its own, as long as it lives.
class BlockQueue {
 public:
  /// Throws Error; nothing runs then.
  BlockQueue(const BlockContext& context, const Activation& activation, const VirtqueueSetup& setup,
             EventLoop& loop, BlockCounters& counters);
  /// With the loop not paused. try_end(), however long it takes.
  ~BlockQueue();
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  /// Why a queue takes no requests; there may be several reasons at a time.
  enum class Hold : uint8_t { kPause = 1, kResize = 2, kEnd = 4 };

  /// Asks the queue to take no more requests. Any thread, like what follows.
  void hold(Hold reason) noexcept;
  /// True once it takes none and none is in flight. After hold(), not on the loop's thread.
  [[nodiscard]] bool wait_still(const Deadline& deadline) noexcept;
  /// Takes a hold() back: without another reason the queue goes on.
  void release(Hold reason) noexcept;
  /// For good: holds, waits, and gives up what serving takes, disk queue and watches. False if it
  /// is still on its way at the deadline; then it is to be called again. With the loop not paused.
  [[nodiscard]] bool try_end(const Deadline& deadline) noexcept;

  /// For people: by what the host moves the bytes.
  [[nodiscard]] std::string_view engine() const noexcept { return disk_->engine(); }

 private:
  /// What became of a look at the queue.
  enum class Look { kWorked, kNothing, kFull, kThrottled, kBroken };

  /// What one turn has taken so far.
  struct Batch {
    int operations = 0;
    uint64_t bytes = 0;
  };

  void serve() noexcept;
  [[nodiscard]] Look turn() noexcept;
  [[nodiscard]] Look take_requests() noexcept;
  /// One chain, if there is one and room for it.
  [[nodiscard]] Look take_one(Batch& batch) noexcept;
  [[nodiscard]] bool has_room(const DescriptorChain& chain) const noexcept;
  [[nodiscard]] bool is_throttled(const BlockRequest& request) noexcept;
  [[nodiscard]] int throttle_fd() const noexcept {
    return throttle_timer_ ? throttle_timer_->fd() : -1;
  }
  [[nodiscard]] bool sleep_or_poll(Look last) noexcept;
  bool reap() noexcept;
  void end_operation(DiskOperation& operation) noexcept;
  void end_merge(BlockMerge& merge) noexcept;
  void end_request(BlockRequest& request) noexcept;
  void complete(BlockRequest& request, uint8_t status) noexcept;
  void publish() noexcept;
  [[nodiscard]] size_t in_flight() const noexcept { return requests_.size() - free_.size(); }
  void apply_holds() noexcept;
  void settle() noexcept;
  void settle_later() noexcept;
  void fail(const char* reason) noexcept;

  const BlockContext context_;
  EventLoop& loop_;
  BlockCounters& counters_;
  const EventFd& doorbell_;
  VirtqueueInterrupt& interrupt_;
  SplitQueue queue_;
  std::unique_ptr<DiskQueue> disk_;
  BlockMerger merger_;
  BlockPoll poll_;
  std::optional<Timer> throttle_timer_;  ///< if there is a limiter
  std::vector<BlockRequest> requests_;
  std::vector<uint16_t> free_;  ///< indexes into requests_
  size_t extra_buffers_ = 0;    ///< in flight beyond the requests' own
  uint64_t batch_time_ = 0;     ///< monotonic ns, 0 if not yet read
  uint64_t end_time_ = 0;       ///< the same of what ends
  bool takes_ = true;           ///< requests; the loop's thread's view of `holds_`
  bool settle_pending_ = false;
  const char* failure_ = nullptr;
  LoopTeardown teardown_;

  std::mutex mutex_;  ///< of what follows
  std::condition_variable changed_;
  uint8_t holds_ = 0;           ///< reasons
  bool apply_pending_ = false;  ///< the loop's thread is going to look at them
  bool still_ = false;          ///< none is in flight, and none will be while there are reasons
};

}  // namespace tsvmm
