#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>

#include "core/rate_limiter.h"
#include "net/net_backend.h"
#include "virtio/net_buffer_pool.h"
#include "virtio/net_counters.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Puts frames from the network into a receive queue's buffers, many at a time. Belongs to one
/// thread.
///
/// A frame's size is known only when it has been read. So each is read into as many buffers as the
/// largest of the last frames took, with spare memory behind them; what landed there is copied into
/// more buffers. Drivers that let frames be spread (MRG_RXBUF) get no frame cut off.
class NetReceiver {
 public:
  /// Why no more frames come for now.
  enum class Turn {
    kMore,       ///< frames came, and there may be more
    kEmpty,      ///< the network has none
    kNoBuffers,  ///< the driver has to make buffers available first
    kLimited,    ///< the rate limit: worth another try in limited_ns()
    kGone,       ///< the network will never have one again
    kBroken,     ///< the driver broke a rule, error() says which
  };

  /// `limiter` may be nullptr. Throws Error.
  NetReceiver(const GuestMemory& memory, const VirtqueueSetup& setup, uint64_t features,
              NetQueue& network, RateLimiter* limiter, NetCounters::Direction& counters);
  ~NetReceiver();
  NetReceiver(const NetReceiver&) = delete;
  NetReceiver& operator=(const NetReceiver&) = delete;

  /// Receives one batch.
  [[nodiscard]] Turn run() noexcept;
  /// Gives buffers that no frame was delivered in back: the queue's next server goes on there.
  /// Nothing runs afterwards, but for what take_back() makes possible again.
  void give_back() noexcept { queue_.undo_pop(undelivered()); }
  void take_back() noexcept { queue_.redo_pop(undelivered()); }
  /// How many frames the last batch had.
  [[nodiscard]] size_t received() const noexcept { return received_; }
  [[nodiscard]] SplitQueue& queue() noexcept { return queue_; }
  [[nodiscard]] uint64_t limited_ns() const noexcept { return limited_ns_; }
  [[nodiscard]] const char* error() const noexcept { return pool_.error(); }

 private:
  /// One frame to be read, or that has been.
  struct Read {
    size_t chain = 0;     ///< the first one in the pool that it is read into
    size_t capacity = 0;  ///< of those; what exceeds it lands in the spare memory, as far from its
                          ///< start
    bool is_spare = false;  ///< all of it is in the spare memory
  };

  [[nodiscard]] Turn prepare() noexcept;
  [[nodiscard]] Turn prepare_one(size_t& next_chain, size_t& next_vector) noexcept;
  [[nodiscard]] Turn receive() noexcept;
  [[nodiscard]] Turn deliver() noexcept;
  [[nodiscard]] Turn find_room(size_t size, size_t& chains) noexcept;
  void put(size_t index, size_t size, size_t chains) noexcept;
  void complete_header(std::span<const iovec> buffers, uint16_t chains) const noexcept;
  void move_to_chains(size_t index, size_t size, size_t chains) noexcept;
  void move_to_spare(size_t index) noexcept;
  void learn(size_t size) noexcept;
  [[nodiscard]] bool can_wait() const noexcept;
  /// Chains in the pool that hold no delivered frame.
  [[nodiscard]] uint16_t undelivered() const noexcept {
    return static_cast<uint16_t>(pool_.size() - next_chain_);
  }
  [[nodiscard]] bool admitted(size_t size) noexcept;
  [[nodiscard]] uint8_t* spare(size_t index) const noexcept;

  SplitQueue queue_;
  VirtqueueInterrupt& interrupt_;
  NetQueue& network_;
  RateLimiter* const limiter_;
  NetCounters::Direction& counters_;
  const bool mergeable_;
  const bool takes_checksums_;
  uint64_t limited_ns_ = 0;
  NetBufferPool pool_;

  size_t batch_ = 1;       ///< how many frames to ask for
  size_t expected_ = 1;    ///< bytes that each frame is given room for at once
  size_t largest_ = 1;     ///< of the last few frames
  size_t counted_ = 0;     ///< those frames
  size_t next_ = 0;        ///< of frames_, to be delivered
  size_t received_ = 0;    ///< of frames_; a later run goes on where one had to stop
  size_t next_chain_ = 0;  ///< of the pool, for the next frame
  std::array<NetFrame, NetQueue::kMaxBatch> frames_;
  std::array<Read, NetQueue::kMaxBatch> reads_;
  std::unique_ptr<iovec[]> vectors_;
  uint8_t* spare_ = nullptr;  ///< a slot for each of frames_, untouched memory most of the time
};

}  // namespace tsvmm
