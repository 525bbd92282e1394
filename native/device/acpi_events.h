#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "device/byte_device.h"

namespace tsvmm {

struct AcpiEventsState {
  uint16_t pm1_status = 0;
  uint16_t pm1_enable = 0;
  uint8_t gpe_status = 0;
  uint8_t gpe_enable = 0;
};

/// The registers of ACPI's fixed hardware whose events reach the guest by the SCI, also while it is
/// suspended to idle: the PM1 event and control blocks and general-purpose event block 0
/// (ACPI 6.5 §4.8.3.1, §4.8.3.2, §4.8.4.1). There is the RTC's fixed event, and the power button's
/// GPE; the timer sets no status. The machine is in ACPI mode from the start.
class AcpiEvents final : public ByteDevice {
 public:
  /// PM1 status and enable, PM1 control, two bytes of nothing, GPE status and enable.
  static constexpr uint64_t kSize = 10;
  static constexpr uint8_t kPowerButtonGpe = 1U << 0;

  /// `sci` is called with whether the interrupt is asserted, with a lock held; any thread.
  /// `power_off` runs on the vCPU thread that writes sleep type 5 to PM1 control.
  AcpiEvents(std::function<void(bool asserted)> sci, std::function<void()> power_off,
             const AcpiEventsState& state = {});
  [[nodiscard]] AcpiEventsState state() const;

  /// False, and nothing happens, while the guest does not listen. Any thread.
  [[nodiscard]] bool raise_gpe(uint8_t gpe) noexcept;
  /// The RTC's alarm. Any thread.
  void rtc_alarm() noexcept;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;
  void update_sci() noexcept;

  const std::function<void(bool)> sci_;
  const std::function<void()> power_off_;
  mutable std::mutex mutex_;
  AcpiEventsState state_;
  bool asserted_ = false;
};

}  // namespace tsvmm
