#include "virtio/iommu/mappings.h"

#include <iterator>
#include <utility>

namespace tsvmm {

IommuMappings::ByFirst::const_iterator IommuMappings::containing(uint64_t address) const noexcept {
  auto found = by_first_.upper_bound(address);
  if (found == by_first_.begin()) return by_first_.end();
  --found;
  return found->second->mapping.last >= address ? found : by_first_.end();
}

bool IommuMappings::add(const IommuMapping& mapping) {
  const auto next = by_first_.lower_bound(mapping.first);
  if (next != by_first_.end() && next->first <= mapping.last) return false;
  if (next != by_first_.begin() && std::prev(next)->second->mapping.last >= mapping.first) {
    return false;
  }
  by_first_.emplace_hint(next, mapping.first, std::make_shared<LiveMapping>(mapping));
  return true;
}

const LiveMappingRef* IommuMappings::find(uint64_t address) const noexcept {
  const auto found = containing(address);
  return found == by_first_.end() ? nullptr : &found->second;
}

bool IommuMappings::is_split_by(uint64_t first, uint64_t last) const noexcept {
  const auto begin = containing(first);
  if (begin != by_first_.end() && begin->first < first) return true;
  const auto end = containing(last);
  return end != by_first_.end() && end->second->mapping.last > last;
}

std::vector<LiveMappingRef> IommuMappings::take(uint64_t first, uint64_t last, size_t limit) {
  std::vector<LiveMappingRef> taken;
  auto next = by_first_.lower_bound(first);
  while (next != by_first_.end() && next->first <= last && taken.size() < limit) {
    taken.push_back(std::move(next->second));
    next = by_first_.erase(next);
  }
  return taken;
}

void IommuMappings::restore(const std::vector<LiveMappingRef>& taken) {
  for (const LiveMappingRef& one : taken) by_first_.emplace(one->mapping.first, one);
}

std::vector<IommuMapping> IommuMappings::all() const {
  std::vector<IommuMapping> plain;
  plain.reserve(by_first_.size());
  for (const auto& [first, live] : by_first_) plain.push_back(live->mapping);
  return plain;
}

}  // namespace tsvmm
