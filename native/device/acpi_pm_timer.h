#pragma once

#include <cstdint>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

struct AcpiPmTimerState {
  uint64_t elapsed_ns = 0;  ///< since the counter was 0
};

/// The 32-bit ACPI power management timer (ACPI 6.5 §4.8.3.3): counts 3.579545 MHz from 0,
/// read-only.
class AcpiPmTimer final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 4;

  explicit AcpiPmTimer(const AcpiPmTimerState& state = {});
  [[nodiscard]] AcpiPmTimerState state() const noexcept;

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

  /// The counter after `ns` nanoseconds.
  static uint32_t ticks(uint64_t ns);

 private:
  const uint64_t start_ns_;  ///< CLOCK_MONOTONIC when the counter was 0
};

}  // namespace tsvmm
