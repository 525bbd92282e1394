#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "virtio/virtio_device.h"

namespace tsvmm {

/// Device status bits (virtio 1.2 §2.1).
namespace virtio_status {
inline constexpr uint8_t kAcknowledge = 1;
inline constexpr uint8_t kDriver = 2;
inline constexpr uint8_t kDriverOk = 4;
inline constexpr uint8_t kFeaturesOk = 8;
inline constexpr uint8_t kNeedsReset = 64;
inline constexpr uint8_t kFailed = 128;
}  // namespace virtio_status

inline constexpr uint16_t kNoVector = 0xffff;

/// What a driver has negotiated and set up.
struct CommonConfigState {
  struct Queue {
    VirtqueueConfig rings;
    uint16_t vector = kNoVector;
    bool enabled = false;
    SplitQueueState progress;  ///< of the device, which keeps it there while it is active
  };
  uint64_t driver_features = 0;
  uint32_t device_feature_select = 0;
  uint32_t driver_feature_select = 0;
  uint16_t queue_select = 0;
  uint16_t config_vector = kNoVector;
  uint8_t status = 0;
  uint8_t generation = 0;
  bool unknown_features = false;  ///< the driver set bits above 63
  std::vector<Queue> queues;
};

/// The common configuration structure (virtio 1.2 §4.1.4.3): feature negotiation, queue set-up and
/// the status state machine, with no device behind it. Its owner serializes all but fail() and
/// changed(), and carries out the effects.
class CommonConfig {
 public:
  static constexpr uint32_t kSize = 0x38;
  static constexpr uint64_t kQueueVector = 0x1a;  ///< offset of queue_msix_vector

  /// What the owner has to do after a write.
  enum class Effect { kNone, kActivate, kReset };

  using Queue = CommonConfigState::Queue;

  /// `vectors` bounds what the driver may put into the vector fields.
  CommonConfig(uint64_t features, const std::vector<uint16_t>& queue_sizes, uint16_t vectors);

  [[nodiscard]] CommonConfigState state() const;
  /// Of a device with the same features and queues. Throws Error for what no driver could have set
  /// up.
  void restore(const CommonConfigState& state);

  /// Any width and alignment; beyond the structure zeros.
  void read(uint64_t offset, std::span<uint8_t> data) const noexcept;
  /// A write to one field in its own width (64-bit fields also by halves); others are dropped.
  [[nodiscard]] Effect write(uint64_t offset, std::span<const uint8_t> data) noexcept;

  /// Back to power-on values; the end of a reset.
  void clear() noexcept;
  /// What state() would be after clear().
  [[nodiscard]] CommonConfigState cleared() const;
  /// Sets DEVICE_NEEDS_RESET; false if it was set. Any thread.
  bool fail() noexcept;
  /// The device configuration changed. Any thread.
  void changed() noexcept { generation_.fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] uint8_t status() const noexcept { return status_.load(std::memory_order_acquire); }
  [[nodiscard]] uint64_t driver_features() const noexcept { return state_.driver_features; }
  [[nodiscard]] const std::vector<Queue>& queues() const noexcept { return state_.queues; }
  /// Valid until clear().
  [[nodiscard]] SplitQueueState& progress(size_t queue) { return state_.queues.at(queue).progress; }
  [[nodiscard]] uint16_t config_vector() const noexcept {
    return config_vector_.load(std::memory_order_relaxed);
  }

 private:
  [[nodiscard]] Effect write_status(uint8_t value) noexcept;
  void write_queue_field(uint64_t offset, uint16_t value) noexcept;
  void write_queue_address(uint64_t offset, std::span<const uint8_t> data) noexcept;
  void write_driver_feature(uint32_t value) noexcept;
  [[nodiscard]] bool acceptable(const CommonConfigState& state) const noexcept;
  [[nodiscard]] bool is_vector(uint16_t value) const noexcept {
    return value < vectors_ || value == kNoVector;
  }
  [[nodiscard]] Queue* selected() noexcept;

  const uint64_t device_features_;
  const uint16_t vectors_;
  const std::vector<uint16_t> max_sizes_;  ///< by queue
  CommonConfigState state_;                ///< but for what any thread may change
  std::atomic<uint16_t> config_vector_ = kNoVector;
  std::atomic<uint8_t> status_ = 0;
  std::atomic<uint8_t> generation_ = 0;
};

}  // namespace tsvmm
