#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/event_loop.h"
#include "disk/disk_image.h"
#include "disk/disk_queue.h"
#include "virtio/block_counters.h"
#include "virtio/block_request.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What the queues of one block device share.
struct BlockContext {
  DiskImage& image;
  VirtioHost& host;
  const std::atomic<bool>& writeback;
  std::string_view serial;
  bool read_only;
  bool protect_sector0;
};

/// Serves one queue of a block device on an event loop of its own, as long as it lives.
class BlockQueue {
 public:
  /// Throws Error; nothing runs then.
  BlockQueue(const BlockContext& context, const Activation& activation, const VirtqueueSetup& setup,
             EventLoop& loop, BlockCounters& counters);
  /// With the loop running or stopped, not paused. Waits for what is in flight.
  ~BlockQueue();
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  /// Takes no more requests and waits for those in flight. Not on the loop's thread.
  void pause() noexcept;
  void resume() noexcept;

 private:
  /// Why no more requests were taken.
  enum class Taken { kAll, kFull, kBroken };

  void serve() noexcept;
  [[nodiscard]] Taken take_requests() noexcept;
  [[nodiscard]] bool has_room(const DescriptorChain& chain) const noexcept;
  void begin(BlockRequest& request) noexcept;
  /// The status of a request that ends at once; nullopt if it is on the way.
  [[nodiscard]] std::optional<uint8_t> begin_transfer(BlockRequest& request,
                                                      DiskOperation::Kind kind) noexcept;
  [[nodiscard]] uint8_t give_id(BlockRequest& request) const noexcept;
  void reap() noexcept;
  void complete(BlockRequest& request, uint8_t status) noexcept;
  void count(const BlockRequest& request, uint64_t now) noexcept;
  void publish() noexcept;
  void drain() noexcept;
  void fail(const char* reason) noexcept;

  const BlockContext context_;
  EventLoop& loop_;
  BlockCounters& counters_;
  const EventFd& doorbell_;
  VirtqueueInterrupt& interrupt_;
  SplitQueue queue_;
  const std::unique_ptr<DiskQueue> disk_;
  std::vector<BlockRequest> requests_;
  std::vector<uint16_t> free_;  ///< indexes into requests_
  size_t extra_buffers_ = 0;    ///< in flight beyond the requests' own
  uint64_t batch_time_ = 0;     ///< monotonic ns
  const char* failure_ = nullptr;
};

}  // namespace tsvmm
