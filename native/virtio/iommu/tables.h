#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/deadline.h"
#include "memory/guest_memory.h"
#include "virtio/iommu/mappings.h"
#include "virtio/iommu/protocol.h"

namespace tsvmm {

class IommuEndpoint;
class IommuQueue;

/// What a guest has made of its IOMMU.
struct IommuState {
  struct Domain {
    uint32_t id = 0;
    bool bypass = false;  ///< its endpoints use guest physical addresses
    std::vector<IommuMapping> mappings;
  };
  struct Attachment {
    uint32_t endpoint = 0;
    uint32_t domain = 0;
  };
  bool bypass = true;  ///< of endpoints in no domain
  std::vector<Domain> domains;
  std::vector<Attachment> attachments;
};

/// Endpoints, domains and mappings of an IOMMU (virtio 1.2 §5.13): the device changes them, and
/// queues of devices behind it translate by them, each on its own thread.
///
/// One lock. It is held for a bounded number of steps, and never during a wait.
class IommuTables : public std::enable_shared_from_this<IommuTables> {
 public:
  using Status = virtio_iommu::Status;
  /// Mappings are multiples of this.
  static constexpr uint64_t kPageSize = 4096;
  /// Of all domains together: what a guest can take of the host's memory, some 128 bytes for each.
  static constexpr size_t kMaxMappings = size_t{1} << 20;
  /// The same for mappings that chains in flight use.
  static constexpr size_t kMaxUses = size_t{1} << 20;
  /// Faults that the driver has not been told of yet; what comes on top is only counted.
  static constexpr size_t kMaxFaults = 64;

  explicit IommuTables(const IommuState& state = {}, size_t max_mappings = kMaxMappings);
  ~IommuTables();
  IommuTables(const IommuTables&) = delete;
  IommuTables& operator=(const IommuTables&) = delete;
  [[nodiscard]] IommuState state() const;
  /// Goes on where others were. Before anything else is done. Throws Error.
  void restore(const IommuState& state);

  /// A device behind the IOMMU, for as long as it lives; then it is detached. Throws Error if the
  /// id is taken.
  [[nodiscard]] std::shared_ptr<IommuEndpoint> add_endpoint(uint32_t id);

  // Requests (§5.13.6), one at a time. A request that revokes access (detach, attach to another
  // domain, unmap) completes when no chain in flight uses it any more. If one still does at the
  // deadline the request fails, and nothing has changed but that revoked rings stay unusable. An
  // unmap of very many mappings may have removed some of them.

  [[nodiscard]] Status attach(uint32_t domain, uint32_t endpoint, uint32_t flags,
                              const Deadline& deadline);
  [[nodiscard]] Status detach(uint32_t domain, uint32_t endpoint, const Deadline& deadline);
  /// The mapping is of whole pages.
  [[nodiscard]] Status map(uint32_t domain, const IommuMapping& mapping);
  [[nodiscard]] Status unmap(uint32_t domain, uint64_t first, uint64_t last,
                             const Deadline& deadline);
  [[nodiscard]] bool has_endpoint(uint32_t id) const;
  /// That it begins and ends where pages do, and leads to addresses that there are.
  [[nodiscard]] static bool is_whole_pages(const IommuMapping& mapping) noexcept;

  /// Whether endpoints in no domain use guest physical addresses.
  [[nodiscard]] bool bypass() const;
  /// False if a queue that this revokes, or another such call has, still uses its rings at the
  /// deadline.
  [[nodiscard]] bool set_bypass(bool bypass, const Deadline& deadline);
  /// The device's reset: all domains go, `bypass` stays. Chains in flight keep their translations.
  /// Returns when no revoked ring is used any more, without a deadline: the device calls this on
  /// its own thread, and the wait for that has one (LoopTeardown).
  void clear();

  /// Is notified of new faults, on any thread and with the lock held; may be nullptr.
  void set_fault_listener(std::function<void()> listener);
  [[nodiscard]] std::optional<virtio_iommu::Fault> take_fault();

  // For the figures of the device.

  [[nodiscard]] size_t mappings() const;
  [[nodiscard]] uint64_t faults() const noexcept { return faults_counted_; }

 private:
  friend class IommuEndpoint;
  friend class IommuQueue;
  struct Domain {
    bool bypass = false;
    size_t endpoints = 0;
    IommuMappings mappings;
  };
  using Domains = std::map<uint32_t, Domain>;
  using Queues = std::vector<std::shared_ptr<IommuQueue>>;
  /// What a device asks for.
  struct Access {
    GuestAddress address;
    uint64_t length;
    uint32_t flags;  ///< virtio_iommu::kMapRead or kMapWrite
  };
  /// What is found, in a queue's memory.
  struct Found {
    std::vector<std::span<uint8_t>>& pieces;  ///< at most `max_pieces` with those before
    size_t max_pieces;
    std::vector<LiveMappingRef>& uses;  ///< at most `max_uses` with those before
    size_t max_uses;
    bool ring;  ///< uses are of a ring, and do not count as chains
  };

  [[nodiscard]] Domain* domain(uint32_t id) noexcept;
  [[nodiscard]] std::shared_ptr<IommuEndpoint> endpoint(uint32_t id) const;
  Domain* place(uint32_t endpoint, std::optional<uint32_t> domain, bool bypass,
                Domains::node_type& gone);
  [[nodiscard]] Status move(std::unique_lock<std::mutex>& lock, IommuEndpoint& endpoint,
                            std::optional<uint32_t> domain, bool bypass, const Deadline& deadline,
                            Domains::node_type& gone);
  [[nodiscard]] bool end_uses(std::unique_lock<std::mutex>& lock, uint32_t domain,
                              const std::vector<LiveMappingRef>& taken, const Deadline& deadline);
  [[nodiscard]] static bool await(std::unique_lock<std::mutex>& lock, Queues queues,
                                  const Deadline& deadline);
  template <typename Condition>
  [[nodiscard]] bool wait(std::unique_lock<std::mutex>& lock, const Deadline& deadline,
                          Condition condition);
  void released() noexcept;
  void removed(IommuEndpoint& endpoint) noexcept;
  [[nodiscard]] bool translate(const IommuEndpoint& endpoint, const GuestMemory& memory,
                               const Access& access, Found& found);
  [[nodiscard]] bool walk(Domain& domain, const GuestMemory& memory, const Access& access,
                          Found& found);
  [[nodiscard]] bool add_piece(const GuestMemory& memory, GuestAddress address, uint64_t length,
                               Found& found);
  [[nodiscard]] bool fault(virtio_iommu::FaultReason reason, const IommuEndpoint& endpoint,
                           const Access& access);

  const size_t max_mappings_;
  mutable std::mutex mutex_;  ///< everything below that is not atomic
  std::condition_variable released_;
  std::atomic<uint32_t> waiting_ = 0;  ///< for released_
  Domains domains_;
  size_t mapping_count_ = 0;
  bool bypass_ = true;
  std::map<uint32_t, std::weak_ptr<IommuEndpoint>> endpoints_;
  std::map<uint32_t, uint32_t> attached_;  ///< endpoint -> domain
  std::deque<virtio_iommu::Fault> faults_;
  std::function<void()> fault_listener_;
  std::atomic<uint64_t> faults_counted_ = 0;
  std::atomic<size_t> uses_ = 0;
};

/// A device behind the IOMMU, by its number: segment, bus, device and function.
class IommuEndpoint : public std::enable_shared_from_this<IommuEndpoint> {
 public:
  /// Made by IommuTables::add_endpoint().
  IommuEndpoint(std::shared_ptr<IommuTables> tables, uint32_t id);
  ~IommuEndpoint();
  IommuEndpoint(const IommuEndpoint&) = delete;
  IommuEndpoint& operator=(const IommuEndpoint&) = delete;

 private:
  friend class IommuTables;
  friend class IommuQueue;
  enum class Revoke : uint8_t { kAll, kLostRing, kNone };
  [[nodiscard]] IommuTables::Queues revoke(Revoke which);

  const std::shared_ptr<IommuTables> tables_;
  const uint32_t id_;
  std::atomic<uint32_t> in_flight_ = 0;  ///< chains of all its queues

  // Under the tables' lock.
  IommuTables::Domain* domain_ = nullptr;
  std::vector<std::weak_ptr<IommuQueue>> queues_;
  uint64_t queues_made_ = 0;  ///< also those that are gone
};

}  // namespace tsvmm
