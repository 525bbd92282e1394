#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "virtio/ring_bytes.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

class IommuQueue;

/// One buffer of a chain: bytes of guest memory, which the guest may change at any time.
struct GuestBuffer {
  uint8_t* host;
  uint32_t length;  ///< never 0
};

/// A request that the driver made available.
struct DescriptorChain {
  uint16_t head = 0;
  std::span<const GuestBuffer> readable;  ///< valid until the queue's next pop()
  std::span<const GuestBuffer> writable;
};

/// The device's side of a split virtqueue (virtio 1.2 §2.7), with event indexes and indirect
/// descriptors.
///
/// Belongs to one thread at a time. Everything the driver wrote is copied before it is looked at;
/// what breaks the rules makes the queue broken for good. Nothing is allocated after construction.
///
/// All addresses of the driver are translated here, and nowhere else: of a device behind an IOMMU
/// by its tables, at pop(). A buffer that leads to several places is then several buffers, and what
/// a chain uses stays the chain's until push_used() (virtio/iommu/queue.h).
class SplitQueue {
 public:
  /// Goes on from the setup's state and keeps it up to date. Throws Error if the size is no power
  /// of two, or a ring is misaligned or not inside one region of guest memory.
  SplitQueue(const GuestMemory& memory, const VirtqueueSetup& setup, uint64_t features);
  ~SplitQueue();
  SplitQueue(const SplitQueue&) = delete;
  SplitQueue& operator=(const SplitQueue&) = delete;

  enum class Pop { kChain, kEmpty, kBroken };
  /// Takes the next available chain. kBroken for good once the driver broke a rule; error() says
  /// which.
  [[nodiscard]] Pop pop(DescriptorChain& chain) noexcept;
  /// Whether pop() would find something. For who looks again and again.
  [[nodiscard]] bool has_available() noexcept;
  /// Gives the chains of the last `count` calls of pop() back, to be taken again later.
  void undo_pop(uint16_t count = 1) noexcept;
  /// Takes them again as they were.
  void redo_pop(uint16_t count) noexcept;

  /// Returns a chain, whose buffers are not touched any more, with `written` bytes in its writable
  /// buffers; the driver sees it after publish().
  void push_used(uint16_t head, uint32_t written) noexcept;
  /// Shows the driver all pushed chains. True if it wants to be interrupted for them.
  [[nodiscard]] bool publish() noexcept;

  /// Asks for a doorbell at the next available chain. True if one came meanwhile: then pop() again
  /// instead of waiting.
  [[nodiscard]] bool enable_notifications() noexcept;
  /// Tells the driver that no doorbell is needed while this side is looking anyway.
  void disable_notifications() noexcept;

  [[nodiscard]] uint16_t size() const noexcept { return size_; }
  [[nodiscard]] const char* error() const noexcept { return error_; }

 private:
  struct Descriptor {
    GuestAddress address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };
  /// A table of descriptors being walked: the queue's own or an indirect one.
  struct Table {
    const uint8_t* host;  ///< nullptr: the queue's own
    uint32_t entries;
  };

  class RingAccess;

  [[nodiscard]] bool chains_available() noexcept;
  [[nodiscard]] uint16_t& available(size_t word) const noexcept {
    return available_.at<uint16_t>(sizeof(uint16_t) * word);
  }
  [[nodiscard]] uint16_t& used(size_t word) const noexcept {
    return used_.at<uint16_t>(sizeof(uint16_t) * word);
  }
  [[nodiscard]] uint16_t& avail_event() const noexcept;
  [[nodiscard]] bool collect(uint16_t head, DescriptorChain& chain) noexcept;
  [[nodiscard]] bool enter_indirect(const Descriptor& descriptor, Table& table) noexcept;
  [[nodiscard]] bool add_buffer(const Descriptor& descriptor, uint32_t& readable,
                                uint32_t& writable) noexcept;
  [[nodiscard]] bool add_translated(const Descriptor& descriptor, uint32_t& readable,
                                    uint32_t& writable) noexcept;
  [[nodiscard]] const uint8_t* translate_table(const Descriptor& descriptor) noexcept;
  [[nodiscard]] Descriptor copy_descriptor(const Table& table, uint32_t index) const noexcept;
  [[nodiscard]] bool broken(const char* reason) noexcept;
  [[nodiscard]] RingBytes ring(GuestAddress address, uint64_t length, uint64_t alignment,
                               bool device_writes, const char* name) const;

  const GuestMemory& memory_;
  const std::shared_ptr<IommuQueue> iommu_;  ///< nullptr where addresses are not translated
  const uint16_t size_;
  const bool event_index_;
  const bool indirect_;
  RingBytes descriptors_;
  RingBytes available_;  ///< flags, index, ring, used_event: 16-bit words
  RingBytes used_;       ///< flags, index, ring of two 32-bit words, avail_event
  SplitQueueState& state_;
  uint16_t seen_available_;  ///< the driver's index when last looked at
  uint16_t published_used_;  ///< what the driver sees of next_used
  const char* error_ = nullptr;
  std::vector<GuestBuffer> buffers_;
  std::vector<uint8_t> indirect_copy_;  ///< of a table in several pieces
};

}  // namespace tsvmm
