#include "virtio/mem/plugged_blocks.h"

#include <algorithm>
#include <atomic>

namespace tsvmm {
namespace {

/// Of all regions. Each looks before it adds to them, so that they can become too many by one for
/// each region that does so at the same time.
std::atomic<size_t> pieces_of_process = 0;

auto at(auto& bits, size_t block) { return bits.begin() + static_cast<std::ptrdiff_t>(block); }

}  // namespace

PluggedBlocks::~PluggedBlocks() { pieces_of_process -= pieces_; }

bool PluggedBlocks::all_are(bool plugged, const Range& range) const noexcept {
  return std::all_of(at(plugged_, range.first), at(plugged_, range.first + range.count),
                     [plugged](bool one) { return one == plugged; });
}

/// New memory becomes one mapping with that before it, or else with that behind it. With both it
/// does not once the guest has written to them: the kernel keeps private pages of two mappings
/// apart for good.
size_t PluggedBlocks::pieces_after(bool plugged, const Range& range) const noexcept {
  const size_t end = range.first + range.count;
  if (plugged) {
    return pieces_ + (is_plugged_before(range.first) || is_plugged(end) ? 0 : 1);
  }
  const auto gone = std::count(at(begins_, range.first), at(begins_, end), true);
  const size_t cut = is_plugged(end) && !begins_[end] ? 1 : 0;
  return pieces_ - static_cast<size_t>(gone) + cut;
}

bool PluggedBlocks::scatters(bool plugged, const Range& range) const noexcept {
  const size_t after = pieces_after(plugged, range);
  if (after <= pieces_ || after <= kOwnPieces) return false;
  return pieces_of_process - pieces_ + after > kMaxPieces;
}

void PluggedBlocks::mark(bool plugged, const Range& range) noexcept {
  const size_t end = range.first + range.count;
  const size_t after = pieces_after(plugged, range);
  pieces_of_process += after - pieces_;
  pieces_ = after;
  const bool begins = plugged && !is_plugged_before(range.first);
  std::fill(at(begins_, range.first), at(begins_, end), false);
  begins_[range.first] = begins;
  // It begins with this range, or begins anew; a gap that is filled leaves it as it is.
  if (is_plugged(end) && (begins || !plugged)) begins_[end] = !plugged;
  const std::lock_guard lock(mutex_);
  std::fill(at(plugged_, range.first), at(plugged_, end), plugged);
}

std::vector<bool> PluggedBlocks::copy() const {
  const std::lock_guard lock(mutex_);
  return plugged_;
}

}  // namespace tsvmm
