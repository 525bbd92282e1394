#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "virtio/queue.h"

namespace tsvmm {

/// Receive buffers that were taken from a queue and hold no delivered frame yet, in the order in
/// which they were taken. They are always the last ones taken, so that all of them can be given
/// back (SplitQueue::undo_pop) when a device is to be saved.
class NetBufferPool {
 public:
  struct Chain {
    uint16_t head;
    uint32_t capacity;  ///< bytes, at most NetQueue::kMaxFrameSize
    std::span<const iovec> buffers;
  };
  enum class Take {
    kTaken,
    kEmpty,   ///< the driver has made no more available
    kFull,    ///< no room for more of them here
    kBroken,  ///< the driver broke a rule, error() says which
  };

  explicit NetBufferPool(SplitQueue& queue);

  /// Takes one more chain. Invalidates what chain() has returned.
  [[nodiscard]] Take take() noexcept;
  /// How many chains there are.
  [[nodiscard]] size_t size() const noexcept { return end_ - begin_; }
  /// The chain at `index` from the oldest one on.
  [[nodiscard]] Chain chain(size_t index) const noexcept;
  /// The buffers of `count` chains from the one at `index` on; `count` is not 0.
  [[nodiscard]] std::span<const iovec> buffers(size_t index, size_t count) const noexcept;
  /// Drops the oldest `count` chains, which have been returned to the driver.
  void remove(size_t count) noexcept;

  [[nodiscard]] const char* error() const noexcept { return error_; }

 private:
  struct Entry {
    uint16_t head;
    uint16_t count;  ///< of its buffers
    uint32_t first;
    uint32_t capacity;
  };

  [[nodiscard]] bool make_room() noexcept;

  SplitQueue& queue_;
  // Memory that is not used is not touched.
  const size_t capacity_;                   ///< of entries_
  const std::unique_ptr<Entry[]> entries_;  ///< from begin_ to end_
  size_t begin_ = 0;
  size_t end_ = 0;
  const std::unique_ptr<iovec[]> buffers_;
  size_t buffers_end_ = 0;
  const char* error_ = nullptr;
};

}  // namespace tsvmm
