#pragma once

#include <cstdint>

#include "disk/container.h"
#include "disk/vhdx/format.h"

namespace tsvmm::vhdx {

/// A random identifier.
[[nodiscard]] Guid new_guid() noexcept;

/// The two headers of a file ([MS-VHDX] §2.2.2), of which the newer one counts: updating the other
/// one never leaves the file without. Belongs to one thread at a time.
class HeaderPair {
 public:
  /// Throws Error if neither is whole, or the newer one contradicts itself.
  explicit HeaderPair(Container& container);

  [[nodiscard]] const Header& current() const { return current_; }
  [[nodiscard]] Region log() const { return {current_.log_offset, current_.log_length}; }
  /// Replaces the older header and waits until that is on stable storage: 0 or an errno. The
  /// sequence number is not the caller's.
  [[nodiscard]] int update(Header header) noexcept;

 private:
  Container& container_;
  Header current_{};
  size_t current_index_ = 0;
};

}  // namespace tsvmm::vhdx
