#include "virtio/block_merger.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace tsvmm {
namespace {

constexpr size_t kMerges = 16;
/// What is larger gains nothing: the copying is all that counts then.
constexpr uint64_t kMaxMemberSize = 128UL * 1024;
constexpr uint64_t kMaxMergeSize = 1 << 20;
constexpr size_t kMaxMemberBuffers = 8;

bool is_mergeable(const BlockRequest& request) {
  const bool transfers =
      request.kind == DiskOperation::Kind::kRead || request.kind == DiskOperation::Kind::kWrite;
  return transfers && request.length <= kMaxMemberSize &&
         request.buffers.size() <= kMaxMemberBuffers;
}

void put(BlockMerge& merge, BlockRequest& request) {
  std::ranges::copy(request.buffers,
                    merge.all_buffers.begin() + static_cast<ptrdiff_t>(merge.buffer_count));
  merge.buffer_count += request.buffers.size();
  merge.buffers = {merge.all_buffers.data(), merge.buffer_count};
  merge.length += request.length;
  merge.all_members[merge.member_count++] = &request;
}

}  // namespace

BlockMerger::BlockMerger(DiskQueue& disk) : disk_(disk), merges_(kMerges) {
  free_.reserve(kMerges);
  for (BlockMerge& merge : merges_) free_.push_back(&merge);
}

bool BlockMerger::add(BlockRequest& request) noexcept {
  if (!is_mergeable(request)) {
    flush();
    disk_.start(request);
    return true;
  }
  if (held_ != nullptr && goes_on(request) && append(request)) return false;
  flush();
  held_ = &request;
  held_end_ = request.offset + request.length;
  return true;
}

bool BlockMerger::goes_on(const BlockRequest& request) const noexcept {
  return request.offset == held_end_ && request.kind == held_->kind &&
         request.durable == held_->durable;
}

bool BlockMerger::append(BlockRequest& request) noexcept {
  if (held_merge_ == nullptr) {
    if (free_.empty()) return false;
    held_merge_ = free_.back();
    free_.pop_back();
    static_cast<DiskOperation&>(*held_merge_) = {
        .kind = held_->kind, .durable = held_->durable, .offset = held_->offset};
    held_merge_->buffer_count = 0;
    held_merge_->member_count = 0;
    put(*held_merge_, *held_);
  }
  BlockMerge& merge = *held_merge_;
  if (merge.member_count == BlockMerge::kMaxMembers ||
      merge.buffer_count + request.buffers.size() > BlockMerge::kMaxBuffers ||
      merge.length + request.length > kMaxMergeSize) {
    return false;
  }
  put(merge, request);
  held_end_ += request.length;
  return true;
}

void BlockMerger::flush() noexcept {
  BlockRequest* held = std::exchange(held_, nullptr);
  BlockMerge* merge = std::exchange(held_merge_, nullptr);
  if (merge != nullptr) {
    disk_.start(*merge);
  } else if (held != nullptr) {
    disk_.start(*held);
  }
}

BlockMerge* BlockMerger::merge_of(DiskOperation& operation) noexcept {
  const std::less<const DiskOperation*> before;
  const DiskOperation* first = merges_.data();
  const DiskOperation* end = merges_.data() + merges_.size();
  if (before(&operation, first) || !before(&operation, end)) return nullptr;
  return static_cast<BlockMerge*>(&operation);
}

}  // namespace tsvmm
