#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "disk/disk_queue.h"
#include "virtio/block_request.h"

namespace tsvmm {

/// Several requests for adjacent sectors, done as one operation.
struct BlockMerge : DiskOperation {
  static constexpr size_t kMaxBuffers = 64;
  static constexpr size_t kMaxMembers = 64;

  std::array<iovec, kMaxBuffers> all_buffers;
  std::array<BlockRequest*, kMaxMembers> all_members;
  size_t buffer_count = 0;
  size_t member_count = 0;

  [[nodiscard]] std::span<BlockRequest*> members() { return {all_members.data(), member_count}; }
};

/// Starts requests, those for adjacent sectors that come one after the other as one operation. No
/// request waits longer than until flush().
class BlockMerger {
 public:
  explicit BlockMerger(DiskQueue& disk);

  /// Starts a request whose operation has been made, or holds it until it is known whether the next
  /// one goes on where it ends. False if it became a part of what is held.
  bool add(BlockRequest& request) noexcept;
  /// Starts what is held.
  void flush() noexcept;

  /// The merge that an ended operation is; nullptr if it is a single request.
  [[nodiscard]] BlockMerge* merge_of(DiskOperation& operation) noexcept;
  /// The merge has been taken apart.
  void release(BlockMerge& merge) noexcept { free_.push_back(&merge); }

 private:
  [[nodiscard]] bool goes_on(const BlockRequest& request) const noexcept;
  [[nodiscard]] bool append(BlockRequest& request) noexcept;

  DiskQueue& disk_;
  std::vector<BlockMerge> merges_;
  std::vector<BlockMerge*> free_;
  BlockRequest* held_ = nullptr;      ///< the first of what is held
  BlockMerge* held_merge_ = nullptr;  ///< if it is more than one request
  uint64_t held_end_ = 0;             ///< bytes from the disk's start
};

}  // namespace tsvmm
