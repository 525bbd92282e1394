#pragma once

#include <cstddef>
#include <vector>

#include "disk/disk_queue.h"

namespace tsvmm {

/// Operations that have ended, in order, with room for all that can be on the way.
class CompletedList {
 public:
  explicit CompletedList(size_t depth) { operations_.reserve(depth); }

  void push(DiskOperation& operation) noexcept { operations_.push_back(&operation); }
  DiskOperation* pop() noexcept {
    if (next_ == operations_.size()) {
      operations_.clear();
      next_ = 0;
      return nullptr;
    }
    return operations_[next_++];
  }
  [[nodiscard]] bool empty() const noexcept { return next_ == operations_.size(); }

 private:
  std::vector<DiskOperation*> operations_;
  size_t next_ = 0;
};

}  // namespace tsvmm
