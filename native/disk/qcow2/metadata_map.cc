#include "disk/qcow2/metadata_map.h"

#include <algorithm>

namespace tsvmm::qcow2 {

void MetadataMap::collect(uint64_t cluster, uint64_t count) {
  if (count == 0) return;
  if (!pieces_.empty() && pieces_.back().end() == cluster) {
    pieces_.back().count += count;
  } else {
    pieces_.push_back({cluster, count});
  }
}

bool MetadataMap::seal() {
  std::ranges::sort(pieces_, {}, &Piece::first);
  size_t kept = 0;
  for (size_t i = 1; i < pieces_.size(); ++i) {
    Piece& before = pieces_[kept];
    const Piece& piece = pieces_[i];
    if (piece.first < before.end()) return false;
    if (piece.first == before.end()) {
      before.count += piece.count;
    } else {
      pieces_[++kept] = piece;
    }
  }
  if (!pieces_.empty()) pieces_.resize(kept + 1);
  return true;
}

bool MetadataMap::overlaps(uint64_t cluster, uint64_t count) const noexcept {
  const auto next = std::ranges::upper_bound(pieces_, cluster, {}, &Piece::end);
  return next != pieces_.end() && next->first < cluster + count;
}

void MetadataMap::insert(uint64_t cluster, uint64_t count) {
  auto next = std::ranges::upper_bound(pieces_, cluster, {}, &Piece::first);
  const bool follows = next != pieces_.begin() && std::prev(next)->end() == cluster;
  const bool leads = next != pieces_.end() && next->first == cluster + count;
  if (follows) {
    std::prev(next)->count += count;
    if (!leads) return;
    std::prev(next)->count += next->count;
    pieces_.erase(next);
  } else if (leads) {
    next->first = cluster;
    next->count += count;
  } else {
    pieces_.insert(next, {cluster, count});
  }
}

void MetadataMap::erase(uint64_t cluster) noexcept {
  const auto place = std::ranges::upper_bound(pieces_, cluster, {}, &Piece::end);
  if (place == pieces_.end() || place->first > cluster) return;
  const Piece behind{cluster + 1, place->end() - cluster - 1};
  place->count = cluster - place->first;
  if (place->count == 0) {
    if (behind.count == 0) {
      pieces_.erase(place);
    } else {
      *place = behind;
    }
  } else if (behind.count != 0) {
    pieces_.insert(place + 1, behind);
  }
}

}  // namespace tsvmm::qcow2
