#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "device/byte_device.h"

namespace tsvmm {

struct PvpanicState {
  uint8_t told = 0;  ///< events that the guest has told
};

/// The register by which a guest tells that its kernel failed. Reading gives the events it may
/// tell, writing tells them. Each is passed on once: a guest may write any number of times.
class Pvpanic final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;
  static constexpr uint8_t kPanicked = 1 << 0;     ///< the kernel has failed
  static constexpr uint8_t kCrashLoaded = 1 << 1;  ///< and goes on with its crash kernel

  /// `tell` runs on vCPU threads with one of the bits.
  explicit Pvpanic(std::function<void(uint8_t event)> tell, PvpanicState state = {});
  [[nodiscard]] PvpanicState state() const noexcept { return {.told = told_}; }

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  const std::function<void(uint8_t event)> tell_;
  std::atomic<uint8_t> told_;
};

}  // namespace tsvmm
