#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "virtio/iommu/tables.h"
#include "virtio/ring_bytes.h"

namespace tsvmm {

/// What a virtqueue of a device behind an IOMMU has beside its indexes: where its rings lead, and
/// which mappings its chains in flight use. Belongs to the queue's thread, but for revoke() and
/// await_revoked().
///
/// The rings are used between enter() and leave() only, so that a change of the tables can take
/// them away: the queue is then broken for good, and its device waits for a reset.
class IommuQueue {
 public:
  /// Registers the queue with its endpoint.
  static std::shared_ptr<IommuQueue> make(IommuEndpoint& endpoint, const GuestMemory& memory,
                                          uint16_t size);
  IommuQueue(IommuEndpoint& endpoint, const GuestMemory& memory, uint16_t size);
  /// Ends the use of all that its chains used.
  ~IommuQueue();
  IommuQueue(const IommuQueue&) = delete;
  IommuQueue& operator=(const IommuQueue&) = delete;

  /// Finds a ring; nullopt if it is not mapped, or not for that. Before the first chain.
  [[nodiscard]] std::optional<RingBytes> ring(GuestAddress address, uint64_t length,
                                              bool device_writes);

  /// False once the rings were taken away; then there is nothing to leave.
  [[nodiscard]] bool enter() noexcept;
  void leave() noexcept { busy_.store(false, std::memory_order_release); }

  // A chain, between enter() and leave().

  /// Where bytes of the chain that is being taken are, in pieces: at most `limit`. Empty if they
  /// are not mapped, or not for that, which is reported to the driver as a fault. Valid until the
  /// next call.
  [[nodiscard]] std::span<const std::span<uint8_t>> find(GuestAddress address, uint64_t length,
                                                         bool device_writes, size_t limit) noexcept;
  /// The chain is taken, from that place of the available ring. False if the device has one with
  /// that head already.
  [[nodiscard]] bool keep(size_t slot, uint16_t head) noexcept;
  /// The chain that was being taken is not.
  void drop() noexcept;

  /// The device touches the chain's buffers no more.
  void release(uint16_t head) noexcept;
  /// The device gives the chain from that place back, and does not touch it until it takes it
  /// again: by keep(), or as it was. What it uses stays in use.
  void give_back(size_t slot) noexcept { chains_[order_[slot]].given_back = true; }
  void take_back(size_t slot) noexcept { chains_[order_[slot]].given_back = false; }

  // Whoever changes the tables.

  void revoke() noexcept { revoked_.store(true); }
  [[nodiscard]] bool is_revoked() const noexcept { return revoked_.load(); }
  /// True once the rings are not touched any more, after revoke(); false if they still are at the
  /// deadline. Not with the tables' lock held.
  [[nodiscard]] bool await_revoked(const Deadline& deadline) const noexcept;
  /// Whether a ring was found by a mapping that its domain has no more. Under the tables' lock.
  [[nodiscard]] bool has_lost_ring(const IommuMappings& mappings) const noexcept;

 private:
  struct Chain {
    bool taken = false;
    bool given_back = false;
    std::vector<LiveMappingRef> uses;
  };

  void end_uses(std::vector<LiveMappingRef>& uses) noexcept;

  const std::shared_ptr<IommuEndpoint> endpoint_;
  IommuTables& tables_;
  const GuestMemory& memory_;
  const size_t max_uses_;                ///< of a chain
  std::vector<Chain> chains_;            ///< by head
  std::vector<uint16_t> order_;          ///< heads, by place in the available ring
  std::vector<LiveMappingRef> pending_;  ///< of the chain that is being taken
  std::vector<std::span<uint8_t>> pieces_;
  std::vector<LiveMappingRef> ring_uses_;  ///< under the tables' lock
  std::atomic<bool> busy_ = false;
  std::atomic<bool> revoked_ = false;
};

}  // namespace tsvmm
