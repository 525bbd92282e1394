#include "device/acpi_events.h"

#include <utility>

#include "device/acpi_power.h"

namespace tsvmm {
namespace {

constexpr uint64_t kPm1StatusHigh = 1;
constexpr uint64_t kPm1EnableHigh = 3;
constexpr uint64_t kPm1ControlLow = 4;
constexpr uint64_t kPm1ControlHigh = 5;
constexpr uint64_t kGpeStatus = 8;
constexpr uint64_t kGpeEnable = 9;

/// RTC_STS and RTC_EN (ACPI 6.5 tables 4.11, 4.12).
constexpr uint16_t kRtc = 1U << 10;
/// SCI_EN (table 4.13): read-only, as nothing could leave ACPI mode.
constexpr uint8_t kSciEnable = 1U << 0;

}  // namespace

AcpiEvents::AcpiEvents(std::function<void(bool)> sci, std::function<void()> power_off,
                       const AcpiEventsState& state)
    : ByteDevice(kSize), sci_(std::move(sci)), power_off_(std::move(power_off)), state_(state) {
  update_sci();
}

AcpiEventsState AcpiEvents::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

bool AcpiEvents::raise_gpe(uint8_t gpe) noexcept {
  const std::lock_guard lock(mutex_);
  if ((state_.gpe_enable & gpe) == 0) return false;
  state_.gpe_status |= gpe;
  update_sci();
  return true;
}

void AcpiEvents::rtc_alarm() noexcept {
  const std::lock_guard lock(mutex_);
  state_.pm1_status |= kRtc;
  update_sci();
}

uint8_t AcpiEvents::read_register(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kPm1StatusHigh:
      return static_cast<uint8_t>(state_.pm1_status >> 8);
    case kPm1EnableHigh:
      return static_cast<uint8_t>(state_.pm1_enable >> 8);
    case kPm1ControlLow:
      return kSciEnable;
    case kGpeStatus:
      return state_.gpe_status;
    case kGpeEnable:
      return state_.gpe_enable;
    default:
      return 0;
  }
}

/// Status bits are cleared by writing 1.
void AcpiEvents::write_register(uint64_t offset, uint8_t value) {
  if (offset == kPm1ControlHigh) {
    if (AcpiPower::is_power_off(value)) power_off_();
    return;
  }
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kPm1StatusHigh:
      state_.pm1_status &= static_cast<uint16_t>(~(value << 8));
      break;
    case kPm1EnableHigh:
      state_.pm1_enable = static_cast<uint16_t>(value << 8) & kRtc;
      break;
    case kGpeStatus:
      state_.gpe_status &= static_cast<uint8_t>(~value);
      break;
    case kGpeEnable:
      state_.gpe_enable = value & kPowerButtonGpe;
      break;
    default:
      return;
  }
  update_sci();
}

void AcpiEvents::update_sci() noexcept {
  const bool asserted =
      (state_.pm1_status & state_.pm1_enable) != 0 || (state_.gpe_status & state_.gpe_enable) != 0;
  if (asserted == asserted_) return;
  asserted_ = asserted;
  sci_(asserted);
}

}  // namespace tsvmm
