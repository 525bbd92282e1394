#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace tsvmm::qcow2 {

/// Knows when no operation can be on its way any more to a cluster that has lost its place in the
/// tables: before that, the cluster must not be used for something else.
///
/// Operations enter an epoch, under the lock that guards the tables, and leave it when they are
/// done. What was unlinked in an epoch is out of use once that epoch and those before it are empty.
class InFlight {
 public:
  /// Under the tables' lock.
  [[nodiscard]] uint8_t enter() noexcept {
    const auto parity = static_cast<uint8_t>(epoch_ & 1);
    counts_[parity].fetch_add(1, std::memory_order_relaxed);
    return parity;
  }
  /// Any thread.
  void leave(uint8_t parity) noexcept { counts_[parity].fetch_sub(1, std::memory_order_release); }

  /// Under the tables' lock.
  [[nodiscard]] uint64_t epoch() const noexcept { return epoch_; }
  /// Under the tables' lock: begins new epochs as far as the old ones are empty.
  void advance() noexcept {
    for (int i = 0; i < 2; ++i) {
      if (counts_[(epoch_ + 1) & 1].load(std::memory_order_acquire) != 0) return;
      ++epoch_;
    }
  }
  /// Under the tables' lock.
  [[nodiscard]] bool is_over(uint64_t epoch) const noexcept { return epoch_ >= epoch + 2; }

 private:
  uint64_t epoch_ = 0;
  std::array<std::atomic<uint32_t>, 2> counts_{};
};

}  // namespace tsvmm::qcow2
