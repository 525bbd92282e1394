#include "disk/qcow2/metadata_map.h"

#include <algorithm>

namespace tsvmm::qcow2 {

void MetadataMap::collect(uint64_t cluster, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) clusters_.push_back(cluster + i);
}

bool MetadataMap::seal() {
  std::ranges::sort(clusters_);
  return std::ranges::adjacent_find(clusters_) == clusters_.end();
}

bool MetadataMap::overlaps(uint64_t cluster, uint64_t count) const noexcept {
  const auto next = std::ranges::lower_bound(clusters_, cluster);
  return next != clusters_.end() && *next - cluster < count;
}

void MetadataMap::insert(uint64_t cluster, uint64_t count) {
  auto place = std::ranges::lower_bound(clusters_, cluster);
  for (uint64_t i = 0; i < count; ++i) place = clusters_.insert(place, cluster + i) + 1;
}

void MetadataMap::erase(uint64_t cluster) noexcept {
  const auto place = std::ranges::lower_bound(clusters_, cluster);
  if (place != clusters_.end() && *place == cluster) clusters_.erase(place);
}

}  // namespace tsvmm::qcow2
