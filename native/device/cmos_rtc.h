#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>

#include "device/byte_device.h"

namespace tsvmm {

struct CmosState {
  uint8_t index = 0;                 ///< as written, with the NMI-disable bit 7
  std::array<uint8_t, 128> bytes{};  ///< battery-backed RAM; the clock's registers in it are unused
};

/// An MC146818 clock with 128 bytes of CMOS RAM. The clock shows the host's UTC in BCD and 24-hour
/// form and never says that an update is in progress; it cannot be set, has no alarm and no
/// interrupt.
class CmosRtc final : public ByteDevice {
 public:
  /// Ports: index, data.
  static constexpr uint64_t kSize = 2;

  /// Sizes in bytes, what the CMOS reports. `reset` runs on the vCPU thread that writes 0 at index
  /// 0x8F.
  CmosRtc(uint64_t memory_below_4g, uint64_t memory_above_4g, std::function<void()> reset);

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  const std::function<void()> reset_;
  std::mutex mutex_;
  CmosState state_;
};

}  // namespace tsvmm
