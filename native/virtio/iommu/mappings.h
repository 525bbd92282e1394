#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "memory/guest_memory.h"

namespace tsvmm {

/// Addresses of a domain, up to and with the last one, and where they lead.
struct IommuMapping {
  uint64_t first = 0;
  uint64_t last = 0;
  GuestAddress address = 0;
  uint64_t flags = 0;  ///< virtio_iommu::kMapRead, kMapWrite
};

/// A mapping with those that are using it.
struct LiveMapping {
  explicit LiveMapping(const IommuMapping& mapping) : mapping(mapping) {}

  const IommuMapping mapping;
  std::atomic<uint32_t> users = 0;  ///< chains that a device has not returned yet
  bool has_ring = false;            ///< some queue's ring was found by it; under the tables' lock
};
using LiveMappingRef = std::shared_ptr<LiveMapping>;

/// The mappings of one domain. Its owner serializes all calls.
class IommuMappings {
 public:
  /// False if some address is mapped already.
  [[nodiscard]] bool add(const IommuMapping& mapping);
  /// nullptr if the address is not mapped.
  [[nodiscard]] const LiveMappingRef* find(uint64_t address) const noexcept;
  /// Whether the removal of that range would cut a mapping in two.
  [[nodiscard]] bool is_split_by(uint64_t first, uint64_t last) const noexcept;
  /// Removes up to `limit` mappings that are wholly in the range, in ascending order.
  [[nodiscard]] std::vector<LiveMappingRef> take(uint64_t first, uint64_t last, size_t limit);
  /// Takes back what take() returned.
  void restore(const std::vector<LiveMappingRef>& taken);
  [[nodiscard]] size_t size() const noexcept { return by_first_.size(); }
  [[nodiscard]] std::vector<IommuMapping> all() const;

 private:
  using ByFirst = std::map<uint64_t, LiveMappingRef>;

  [[nodiscard]] ByFirst::const_iterator containing(uint64_t address) const noexcept;

  ByFirst by_first_;
};

}  // namespace tsvmm
