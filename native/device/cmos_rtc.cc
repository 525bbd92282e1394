#include "device/cmos_rtc.h"

#include <algorithm>
#include <ctime>
#include <optional>

namespace tsvmm {
namespace {

// MC146818A data sheet, and the CMOS RAM map that PC firmware uses.
constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kDayOfWeek = 0x06;
constexpr uint8_t kDayOfMonth = 0x07;
constexpr uint8_t kMonth = 0x08;
constexpr uint8_t kYear = 0x09;
constexpr uint8_t kStatusA = 0x0A;
constexpr uint8_t kStatusB = 0x0B;
constexpr uint8_t kStatusC = 0x0C;
constexpr uint8_t kStatusD = 0x0D;
constexpr uint8_t kCentury = 0x32;
constexpr uint8_t kMemoryAbove16M = 0x34;  // 16 bits, 64 KiB units
constexpr uint8_t kMemoryAbove4G = 0x5B;   // 24 bits, 64 KiB units

constexpr uint8_t kStatusAValue = 0x26;  // no update in progress, 32.768 kHz time base, 1024 Hz
constexpr uint8_t kStatusBValue = 0x02;  // BCD, 24 hours, no interrupts
constexpr uint8_t kStatusDValue = 0x80;  // the battery is good

constexpr uint8_t kIndexMask = 0x7F;
constexpr uint8_t kShutdownStatusNmiOff = 0x8F;
constexpr uint64_t k16MiB = 16 << 20;
constexpr unsigned k64KiBShift = 16;

uint8_t bcd(int value) { return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10); }

tm utc_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm fields{};
  ::gmtime_r(&now.tv_sec, &fields);
  return fields;
}

/// nullopt for a byte of RAM.
std::optional<uint8_t> clock_register(uint8_t index) {
  switch (index) {
    case kSeconds:
      return bcd(std::min(utc_now().tm_sec, 59));  // the chip knows no leap second
    case kMinutes:
      return bcd(utc_now().tm_min);
    case kHours:
      return bcd(utc_now().tm_hour);
    case kDayOfWeek:
      return bcd(utc_now().tm_wday + 1);
    case kDayOfMonth:
      return bcd(utc_now().tm_mday);
    case kMonth:
      return bcd(utc_now().tm_mon + 1);
    case kYear:
      return bcd(utc_now().tm_year % 100);
    case kCentury:
      return bcd((utc_now().tm_year + 1900) / 100);
    case kStatusA:
      return kStatusAValue;
    case kStatusB:
      return kStatusBValue;
    case kStatusC:
      return 0;
    case kStatusD:
      return kStatusDValue;
    default:
      return std::nullopt;
  }
}

}  // namespace

CmosRtc::CmosRtc(uint64_t memory_below_4g, uint64_t memory_above_4g, std::function<void()> reset)
    : ByteDevice(kSize), reset_(std::move(reset)) {
  const uint64_t low = memory_below_4g > k16MiB ? memory_below_4g - k16MiB : 0;
  const uint64_t low_units = std::min<uint64_t>(low >> k64KiBShift, 0xFFFF);
  const uint64_t high_units = std::min<uint64_t>(memory_above_4g >> k64KiBShift, 0xFFFFFF);
  for (unsigned i = 0; i < 2; ++i) {
    state_.bytes[kMemoryAbove16M + i] = static_cast<uint8_t>(low_units >> (8 * i));
  }
  for (unsigned i = 0; i < 3; ++i) {
    state_.bytes[kMemoryAbove4G + i] = static_cast<uint8_t>(high_units >> (8 * i));
  }
}

uint8_t CmosRtc::read_register(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  if (offset == 0) return 0xFF;  // the index register is write-only
  const uint8_t index = state_.index & kIndexMask;
  return clock_register(index).value_or(state_.bytes[index]);
}

void CmosRtc::write_register(uint64_t offset, uint8_t value) {
  {
    const std::lock_guard lock(mutex_);
    if (offset == 0) {
      state_.index = value;
      return;
    }
    state_.bytes[state_.index & kIndexMask] = value;
    // Only with NMIs off: Linux writes 0 at index 0x0F whenever it has started a CPU.
    if (state_.index != kShutdownStatusNmiOff || value != 0) return;
  }
  reset_();
}

}  // namespace tsvmm
