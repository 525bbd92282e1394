#pragma once

#include <cstdint>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

struct AcpiPmTimerState {
  uint64_t start_ns = 0;  ///< CLOCK_MONOTONIC when the counter was 0
};

/// The 32-bit ACPI power management timer (ACPI 6.5 §4.8.3.3): counts 3.579545 MHz from 0,
/// read-only.
class AcpiPmTimer final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 4;

  AcpiPmTimer();

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

  /// The counter after `ns` nanoseconds.
  static uint32_t ticks(uint64_t ns);

 private:
  AcpiPmTimerState state_;
};

}  // namespace tsvmm
