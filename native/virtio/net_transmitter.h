#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/rate_limiter.h"
#include "net/net_backend.h"
#include "virtio/net_counters.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Takes the frames of a transmit queue to the network, many at a time and out of guest memory
/// without a copy. Belongs to one thread.
class NetTransmitter {
 public:
  /// Why no more frames go for now.
  enum class Turn {
    kMore,     ///< frames went, and there may be more
    kEmpty,    ///< the driver has none
    kBlocked,  ///< the network takes none
    kLimited,  ///< the rate limit: worth another try in limited_ns()
    kBroken,   ///< the driver broke a rule, error() says which
  };

  /// `limiter` may be nullptr. Throws Error.
  NetTransmitter(const GuestMemory& memory, const VirtqueueSetup& setup, uint64_t features,
                 NetQueue& network, RateLimiter* limiter, NetCounters::Direction& counters);

  /// Sends one batch of about `max_bytes` at most.
  [[nodiscard]] Turn run(size_t max_bytes) noexcept;
  [[nodiscard]] SplitQueue& queue() noexcept { return queue_; }
  [[nodiscard]] uint64_t limited_ns() const noexcept { return limited_ns_; }

 private:
  /// How many buffers writev takes (IOV_MAX).
  static constexpr size_t kMaxBuffers = 1024;

  [[nodiscard]] Turn collect(size_t max_bytes) noexcept;
  [[nodiscard]] Turn add(const DescriptorChain& chain) noexcept;
  [[nodiscard]] std::span<const iovec> gather(const DescriptorChain& chain, size_t size) noexcept;
  void drop(const DescriptorChain& chain) noexcept;
  [[nodiscard]] bool admitted(size_t size) noexcept;
  void finish(size_t taken) noexcept;

  SplitQueue queue_;
  VirtqueueInterrupt& interrupt_;
  NetQueue& network_;
  RateLimiter* const limiter_;
  NetCounters::Direction& counters_;
  uint64_t limited_ns_ = 0;
  size_t count_ = 0;  ///< of frames_ and heads_ in the batch
  std::array<NetFrame, NetQueue::kMaxBatch> frames_;
  std::array<uint16_t, NetQueue::kMaxBatch> heads_;
  size_t bytes_ = 0;  ///< in the batch
  size_t used_buffers_ = 0;
  std::array<iovec, kMaxBuffers> buffers_;
  std::unique_ptr<uint8_t[]> flat_;  ///< for a frame in more pieces than that
};

}  // namespace tsvmm
