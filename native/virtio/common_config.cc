#include "virtio/common_config.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"

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
    : device_features_(features), vectors_(vectors), max_sizes_(queue_sizes) {
  clear();
}

CommonConfigState CommonConfig::state() const {
  CommonConfigState copy = state_;
  copy.config_vector = config_vector();
  copy.status = status();
  copy.generation = generation_.load(std::memory_order_relaxed);
  return copy;
}

void CommonConfig::restore(const CommonConfigState& state) {
  using namespace virtio_status;
  const bool negotiated = (state.status & kFeaturesOk) != 0;
  const bool features = negotiated ? acceptable(state) : (state.status & kDriverOk) == 0;
  bool queues = state.queues.size() == max_sizes_.size();
  for (size_t i = 0; queues && i < max_sizes_.size(); ++i) {
    const Queue& queue = state.queues[i];
    queues = queue.rings.size <= max_sizes_[i] && is_vector(queue.vector);
  }
  if (!features || !queues || !is_vector(state.config_vector)) {
    throw Error("EINVAL", "a virtio device's state is that of another device");
  }
  state_ = state;
  config_vector_.store(state.config_vector, std::memory_order_relaxed);
  generation_.store(state.generation, std::memory_order_relaxed);
  status_.store(state.status, std::memory_order_release);
}

CommonConfigState CommonConfig::cleared() const {
  CommonConfigState state;
  for (const uint16_t size : max_sizes_) {
    state.queues.push_back({.rings = {.size = size}, .progress = {}});
  }
  state.generation = generation_.load(std::memory_order_relaxed);
  return state;
}

void CommonConfig::clear() noexcept {
  state_ = cleared();
  config_vector_.store(kNoVector, std::memory_order_relaxed);
  status_.store(0, std::memory_order_release);
}

bool CommonConfig::fail() noexcept {
  return (status_.fetch_or(virtio_status::kNeedsReset) & virtio_status::kNeedsReset) == 0;
}

CommonConfig::Queue* CommonConfig::selected() noexcept {
  return state_.queue_select < state_.queues.size() ? &state_.queues[state_.queue_select] : nullptr;
}

void CommonConfig::read(uint64_t offset, std::span<uint8_t> data) const noexcept {
  std::array<uint8_t, kSize> bytes{};
  store<uint32_t>(bytes, state_.device_feature_select, kDeviceFeatureSelect);
  store<uint32_t>(bytes, feature_word(device_features_, state_.device_feature_select),
                  kDeviceFeature);
  store<uint32_t>(bytes, state_.driver_feature_select, kDriverFeatureSelect);
  store<uint32_t>(bytes, feature_word(state_.driver_features, state_.driver_feature_select),
                  kDriverFeature);
  store<uint16_t>(bytes, config_vector(), kConfigVector);
  store<uint16_t>(bytes, static_cast<uint16_t>(state_.queues.size()), kNumQueues);
  store<uint8_t>(bytes, status(), kDeviceStatus);
  store<uint8_t>(bytes, generation_.load(std::memory_order_relaxed), kConfigGeneration);
  store<uint16_t>(bytes, state_.queue_select, kQueueSelect);
  // A queue that does not exist has size 0 (§4.1.4.3.1).
  if (state_.queue_select < state_.queues.size()) {
    const Queue& queue = state_.queues[state_.queue_select];
    store<uint16_t>(bytes, queue.rings.size, kQueueSize);
    store<uint16_t>(bytes, queue.vector, kQueueVector);
    store<uint16_t>(bytes, queue.enabled ? 1 : 0, kQueueEnable);
    store<uint16_t>(bytes, state_.queue_select, kQueueNotifyOffset);
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
    if (offset == kDeviceFeatureSelect) state_.device_feature_select = value;
    if (offset == kDriverFeatureSelect) state_.driver_feature_select = value;
    if (offset == kDriverFeature) write_driver_feature(value);
  } else if (data.size() == 2) {
    const auto value = load<uint16_t>(data);
    if (offset == kQueueSelect) state_.queue_select = value;
    if (offset == kConfigVector) {
      config_vector_.store(is_vector(value) ? value : kNoVector, std::memory_order_relaxed);
    }
    if (offset > kQueueSelect) write_queue_field(offset, value);
  }
  return Effect::kNone;
}

void CommonConfig::write_driver_feature(uint32_t value) noexcept {
  // Negotiation ends with FEATURES_OK (§3.1.1 step 6).
  if ((status() & virtio_status::kFeaturesOk) != 0) return;
  if (state_.driver_feature_select >= 2) {
    state_.unknown_features = state_.unknown_features || value != 0;
    return;
  }
  const unsigned shift = 32 * state_.driver_feature_select;
  state_.driver_features =
      (state_.driver_features & ~(uint64_t{0xffffffff} << shift)) | uint64_t{value} << shift;
}

bool CommonConfig::acceptable(const CommonConfigState& state) const noexcept {
  return !state.unknown_features && (state.driver_features & ~device_features_) == 0 &&
         (state.driver_features & virtio_feature::kVersion1) != 0;
}

void CommonConfig::write_queue_field(uint64_t offset, uint16_t value) noexcept {
  Queue* queue = selected();
  if (queue == nullptr) return;
  if (offset == kQueueVector) {
    queue->vector = is_vector(value) ? value : kNoVector;
    return;
  }
  // The rings are fixed from queue_enable or DRIVER_OK on (§4.1.4.3.2), so no server of them
  // can be surprised.
  if (queue->enabled || (status() & virtio_status::kDriverOk) != 0) return;
  if (offset == kQueueSize && value <= max_sizes_[state_.queue_select]) queue->rings.size = value;
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
  if ((accepted & kDriver) != 0 && acceptable(state_)) accepted |= value & kFeaturesOk;
  const bool may_start =
      (accepted & kFeaturesOk) != 0 && (accepted & kFailed) == 0 && (old & kNeedsReset) == 0;
  if (may_start) accepted |= value & kDriverOk;
  status_.fetch_or(accepted, std::memory_order_acq_rel);
  const bool started = (accepted & ~set & kDriverOk) != 0;
  return started ? Effect::kActivate : Effect::kNone;
}

}  // namespace tsvmm
