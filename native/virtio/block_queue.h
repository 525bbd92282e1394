#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/adaptive_poll.h"
#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "disk/disk_queue.h"
#include "virtio/block_commands.h"
#include "virtio/block_counters.h"
#include "virtio/block_merger.h"
#include "virtio/block_request.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Serves one queue of a block device on an event loop of its own, as long as it lives.
class BlockQueue {
 public:
  /// Throws Error; nothing runs then.
  BlockQueue(const BlockContext& context, const Activation& activation, const VirtqueueSetup& setup,
             EventLoop& loop, BlockCounters& counters);
  /// With the loop neither paused nor stopped. Waits for what is in flight, however long that
  /// takes; the host is told when it takes long.
  ~BlockQueue();
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  /// Takes no more requests and waits for those in flight. False, and goes on as before, if the
  /// disk does not answer any of them for a long time. Not on the loop's thread.
  [[nodiscard]] bool pause() noexcept;
  void resume() noexcept;

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
  void consume_throttle_timer() noexcept;
  [[nodiscard]] bool sleep_or_poll(Look last) noexcept;
  void reap() noexcept;
  void end_operation(DiskOperation& operation) noexcept;
  void end_merge(BlockMerge& merge) noexcept;
  void end_request(BlockRequest& request) noexcept;
  void complete(BlockRequest& request, uint8_t status) noexcept;
  void publish() noexcept;
  [[nodiscard]] bool in_flight() const noexcept { return free_.size() < requests_.size(); }
  /// False if nothing has ended for `patience_ms` (-1: for ever).
  [[nodiscard]] bool drain(int patience_ms) noexcept;
  void drain_at_end() noexcept;
  void fail(const char* reason) noexcept;

  const BlockContext context_;
  EventLoop& loop_;
  BlockCounters& counters_;
  const EventFd& doorbell_;
  VirtqueueInterrupt& interrupt_;
  SplitQueue queue_;
  std::unique_ptr<DiskQueue> disk_;
  BlockMerger merger_;
  AdaptivePoll guest_poll_;
  AdaptivePoll disk_poll_;
  UniqueFd throttle_timer_;  ///< if there is a limiter
  std::vector<BlockRequest> requests_;
  std::vector<uint16_t> free_;  ///< indexes into requests_
  size_t extra_buffers_ = 0;    ///< in flight beyond the requests' own
  uint64_t batch_time_ = 0;     ///< monotonic ns, 0 if not yet read
  uint64_t end_time_ = 0;       ///< the same of what ends
  bool paused_ = false;
  bool restarted_ = false;  ///< something was started outside of a turn
  const char* failure_ = nullptr;
};

}  // namespace tsvmm
