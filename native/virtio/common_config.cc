#include "virtio/common_config.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/bytes.h"

namespace tsvmm {
namespace {

// struct virtio_pci_common_cfg, virtio 1.2 §4.1.4.3.
constexpr uint64_t kDeviceFeatureSelect = 0x00;
constexpr uint64_t kDeviceFeature = 0x04;
constexpr uint64_t kDriverFeatureSelect = 0x08;
constexpr uint64_t kDriverFeature = 0x0c;
constexpr uint64_t kConfigVector = 0x10;
constexpr uint64_t kNumQueues = 0x12;
constexpr uint64_t kDeviceStatus = 0x14;
constexpr uint64_t kConfigGeneration = 0x15;
constexpr uint64_t kQueueSelect = 0x16;
constexpr uint64_t kQueueSize = 0x18;
constexpr uint64_t kQueueEnable = 0x1c;
constexpr uint64_t kQueueNotifyOffset = 0x1e;
constexpr uint64_t kQueueDescriptors = 0x20;
constexpr uint64_t kQueueDriver = 0x28;
constexpr uint64_t kQueueDevice = 0x30;

constexpr uint8_t kDriverBits = virtio_status::kAcknowledge | virtio_status::kDriver |
                                virtio_status::kFeaturesOk | virtio_status::kDriverOk |
                                virtio_status::kFailed;

uint32_t feature_word(uint64_t features, uint32_t select) {
  return select < 2 ? static_cast<uint32_t>(features >> 32 * select) : 0;
}

}  // namespace

CommonConfig::CommonConfig(uint64_t features, const std::vector<uint16_t>& queue_sizes,
                           uint16_t vectors)
    : device_features_(features), vectors_(vectors), queues_(queue_sizes.size()) {
  for (size_t i = 0; i < queues_.size(); ++i) queues_[i].max_size = queue_sizes[i];
  clear();
}

void CommonConfig::clear() noexcept {
  for (Queue& queue : queues_) {
    queue = {.max_size = queue.max_size, .rings = {.size = queue.max_size}};
  }
  driver_features_ = 0;
  device_feature_select_ = 0;
  driver_feature_select_ = 0;
  queue_select_ = 0;
  unknown_features_ = false;
  config_vector_.store(kNoVector, std::memory_order_relaxed);
  status_.store(0, std::memory_order_release);
}

bool CommonConfig::fail() noexcept {
  return (status_.fetch_or(virtio_status::kNeedsReset) & virtio_status::kNeedsReset) == 0;
}

CommonConfig::Queue* CommonConfig::selected() noexcept {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

void CommonConfig::read(uint64_t offset, std::span<uint8_t> data) const noexcept {
  std::array<uint8_t, kSize> bytes{};
  store<uint32_t>(bytes, device_feature_select_, kDeviceFeatureSelect);
  store<uint32_t>(bytes, feature_word(device_features_, device_feature_select_), kDeviceFeature);
  store<uint32_t>(bytes, driver_feature_select_, kDriverFeatureSelect);
  store<uint32_t>(bytes, feature_word(driver_features_, driver_feature_select_), kDriverFeature);
  store<uint16_t>(bytes, config_vector(), kConfigVector);
  store<uint16_t>(bytes, static_cast<uint16_t>(queues_.size()), kNumQueues);
  store<uint8_t>(bytes, status(), kDeviceStatus);
  store<uint8_t>(bytes, generation_.load(std::memory_order_relaxed), kConfigGeneration);
  store<uint16_t>(bytes, queue_select_, kQueueSelect);
  // A queue that does not exist has size 0 (§4.1.4.3.1).
  if (queue_select_ < queues_.size()) {
    const Queue& queue = queues_[queue_select_];
    store<uint16_t>(bytes, queue.rings.size, kQueueSize);
    store<uint16_t>(bytes, queue.vector, kQueueVector);
    store<uint16_t>(bytes, queue.enabled ? 1 : 0, kQueueEnable);
    store<uint16_t>(bytes, queue_select_, kQueueNotifyOffset);
    store<uint64_t>(bytes, queue.rings.descriptor_table, kQueueDescriptors);
    store<uint64_t>(bytes, queue.rings.available_ring, kQueueDriver);
    store<uint64_t>(bytes, queue.rings.used_ring, kQueueDevice);
  } else {
    store<uint16_t>(bytes, kNoVector, kQueueVector);
  }
  std::ranges::fill(data, uint8_t{0});
  if (offset >= kSize) return;
  const size_t size = std::min<size_t>(data.size(), kSize - offset);
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), size, data.begin());
}

CommonConfig::Effect CommonConfig::write(uint64_t offset, std::span<const uint8_t> data) noexcept {
  if (offset == kDeviceStatus && data.size() == 1) return write_status(data[0]);
  if (offset >= kQueueDescriptors) {
    write_queue_address(offset, data);
  } else if (data.size() == 4) {
    const auto value = load<uint32_t>(data);
    if (offset == kDeviceFeatureSelect) device_feature_select_ = value;
    if (offset == kDriverFeatureSelect) driver_feature_select_ = value;
    if (offset == kDriverFeature) write_driver_feature(value);
  } else if (data.size() == 2) {
    const auto value = load<uint16_t>(data);
    if (offset == kQueueSelect) queue_select_ = value;
    if (offset == kConfigVector) {
      config_vector_.store(value < vectors_ ? value : kNoVector, std::memory_order_relaxed);
    }
    if (offset > kQueueSelect) write_queue_field(offset, value);
  }
  return Effect::kNone;
}

void CommonConfig::write_driver_feature(uint32_t value) noexcept {
  // Negotiation ends with FEATURES_OK (§3.1.1 step 6).
  if ((status() & virtio_status::kFeaturesOk) != 0) return;
  if (driver_feature_select_ >= 2) {
    unknown_features_ = unknown_features_ || value != 0;
    return;
  }
  const unsigned shift = 32 * driver_feature_select_;
  driver_features_ = (driver_features_ & ~(uint64_t{0xffffffff} << shift)) | uint64_t{value}
                                                                                 << shift;
}

bool CommonConfig::features_acceptable() const noexcept {
  return !unknown_features_ && (driver_features_ & ~device_features_) == 0 &&
         (driver_features_ & virtio_feature::kVersion1) != 0;
}

void CommonConfig::write_queue_field(uint64_t offset, uint16_t value) noexcept {
  Queue* queue = selected();
  if (queue == nullptr) return;
  if (offset == kQueueVector) {
    queue->vector = value < vectors_ ? value : kNoVector;
    return;
  }
  // The rings are fixed from queue_enable or DRIVER_OK on (§4.1.4.3.2), so nobody who serves them
  // can be surprised.
  if (queue->enabled || (status() & virtio_status::kDriverOk) != 0) return;
  if (offset == kQueueSize && value <= queue->max_size) queue->rings.size = value;
  if (offset == kQueueEnable && value == 1) queue->enabled = true;
}

void CommonConfig::write_queue_address(uint64_t offset, std::span<const uint8_t> data) noexcept {
  Queue* queue = selected();
  if (queue == nullptr || queue->enabled || (status() & virtio_status::kDriverOk) != 0) return;
  if ((data.size() != 4 && data.size() != 8) || offset % data.size() != 0) return;
  GuestAddress* field = nullptr;
  switch (offset & ~7ULL) {
    case kQueueDescriptors:
      field = &queue->rings.descriptor_table;
      break;
    case kQueueDriver:
      field = &queue->rings.available_ring;
      break;
    case kQueueDevice:
      field = &queue->rings.used_ring;
      break;
    default:
      return;
  }
  std::memcpy(reinterpret_cast<uint8_t*>(field) + offset % 8, data.data(), data.size());
}

CommonConfig::Effect CommonConfig::write_status(uint8_t value) noexcept {
  using virtio_status::kAcknowledge;
  using virtio_status::kDriver;
  using virtio_status::kDriverOk;
  using virtio_status::kFailed;
  using virtio_status::kFeaturesOk;
  using virtio_status::kNeedsReset;
  if (value == 0) return Effect::kReset;
  const uint8_t old = status();
  const uint8_t set = old & kDriverBits;
  // A driver may only add bits, and in order (§2.1.1, §3.1.1). What it sets out of order is not
  // taken, which it finds when it reads the status back.
  if ((set & ~value) != 0) return Effect::kNone;
  uint8_t accepted = set | (value & (kAcknowledge | kFailed));
  if ((accepted & kAcknowledge) != 0) accepted |= value & kDriver;
  if ((accepted & kDriver) != 0 && features_acceptable()) accepted |= value & kFeaturesOk;
  const bool may_start =
      (accepted & kFeaturesOk) != 0 && (accepted & kFailed) == 0 && (old & kNeedsReset) == 0;
  if (may_start) accepted |= value & kDriverOk;
  status_.fetch_or(accepted, std::memory_order_acq_rel);
  const bool started = (accepted & ~set & kDriverOk) != 0;
  return started ? Effect::kActivate : Effect::kNone;
}

}  // namespace tsvmm
