#include "device/x86_64/cmos_rtc.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <optional>
#include <utility>

#include "core/error.h"

namespace tsvmm {
namespace {

// MC146818A data sheet, and the CMOS RAM map that PC firmware uses.
constexpr uint8_t kSeconds = 0x00;
constexpr uint8_t kSecondsAlarm = 0x01;
constexpr uint8_t kMinutes = 0x02;
constexpr uint8_t kMinutesAlarm = 0x03;
constexpr uint8_t kHours = 0x04;
constexpr uint8_t kHoursAlarm = 0x05;
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

constexpr uint8_t kStatusDValue = 0x80;  // the battery is good

constexpr uint8_t kIndexMask = 0x7F;
constexpr uint8_t kShutdownStatusNmiOff = 0x8F;
constexpr uint64_t k16MiB = 16 << 20;
constexpr unsigned k64KiBShift = 16;
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

uint8_t bcd(int value) { return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10); }

tm utc(uint64_t ns) {
  const auto seconds = static_cast<time_t>(ns / kNanosecondsPerSecond);
  tm fields{};
  ::gmtime_r(&seconds, &fields);
  return fields;
}

/// nullopt for what is no part of the time.
std::optional<uint8_t> time_register(uint8_t index, uint64_t now_ns) {
  switch (index) {
    case kSeconds:
      return bcd(std::min(utc(now_ns).tm_sec, 59));  // the chip knows no leap second
    case kMinutes:
      return bcd(utc(now_ns).tm_min);
    case kHours:
      return bcd(utc(now_ns).tm_hour);
    case kDayOfWeek:
      return bcd(utc(now_ns).tm_wday + 1);
    case kDayOfMonth:
      return bcd(utc(now_ns).tm_mday);
    case kMonth:
      return bcd(utc(now_ns).tm_mon + 1);
    case kYear:
      return bcd(utc(now_ns).tm_year % 100);
    case kCentury:
      return bcd((utc(now_ns).tm_year + 1900) / 100);
    default:
      return std::nullopt;
  }
}

/// Seconds, minutes and hours of the alarm lie behind those of the time.
constexpr unsigned alarm_field(uint8_t index) { return index / 2U; }

}  // namespace

uint64_t realtime_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec * kNanosecondsPerSecond + now.tv_nsec);
}

CmosRtc::CmosRtc(const Memory& memory, Wiring wiring)
    : ByteDevice(kSize), wiring_(std::move(wiring)), interrupts_(wiring_.now_ns()) {
  const uint64_t low = memory.below_4g > k16MiB ? memory.below_4g - k16MiB : 0;
  const uint64_t low_units = std::min<uint64_t>(low >> k64KiBShift, 0xFFFF);
  const uint64_t high_units = std::min<uint64_t>(memory.above_4g >> k64KiBShift, 0xFFFFFF);
  for (unsigned i = 0; i < 2; ++i) {
    state_.bytes[kMemoryAbove16M + i] = static_cast<uint8_t>(low_units >> (8 * i));
  }
  for (unsigned i = 0; i < 3; ++i) {
    state_.bytes[kMemoryAbove4G + i] = static_cast<uint8_t>(high_units >> (8 * i));
  }
}

/// What was due meanwhile is told at once.
CmosRtc::CmosRtc(const CmosState& state, Wiring wiring)
    : ByteDevice(kSize), wiring_(std::move(wiring)), state_(state), interrupts_(state.interrupts) {
  const std::lock_guard lock(mutex_);
  interrupts_.advance(wiring_.now_ns());
  update_line();
}

CmosState CmosRtc::state() const {
  const std::lock_guard lock(mutex_);
  CmosState copy = state_;
  copy.interrupts = interrupts_.state();
  return copy;
}

CmosRtc::~CmosRtc() {
  if (timer_) wiring_.loop.remove(timer_->fd());
}

uint8_t CmosRtc::read_register(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  if (offset == 0) return 0xFF;  // the index register is write-only
  return read_indexed(state_.index & kIndexMask);
}

uint8_t CmosRtc::read_indexed(uint8_t index) {
  switch (index) {
    case kSecondsAlarm:
    case kMinutesAlarm:
    case kHoursAlarm:
      return interrupts_.alarm(alarm_field(index));
    case kStatusA:
      return interrupts_.a();
    case kStatusB:
      return interrupts_.b();
    case kStatusC: {
      const uint8_t flags = interrupts_.read_c(wiring_.now_ns());
      update_line();
      return flags;
    }
    case kStatusD:
      return kStatusDValue;
    default:
      return time_register(index, wiring_.now_ns()).value_or(state_.bytes[index]);
  }
}

void CmosRtc::write_register(uint64_t offset, uint8_t value) {
  {
    const std::lock_guard lock(mutex_);
    if (offset == 0) {
      state_.index = value;
      return;
    }
    write_indexed(state_.index & kIndexMask, value);
    // Only with NMIs off: Linux writes 0 at index 0x0F whenever it has started a CPU.
    if (state_.index != kShutdownStatusNmiOff || value != 0) return;
  }
  wiring_.reset();
}

void CmosRtc::write_indexed(uint8_t index, uint8_t value) {
  switch (index) {
    case kSecondsAlarm:
    case kMinutesAlarm:
    case kHoursAlarm:
      interrupts_.write_alarm(alarm_field(index), value, wiring_.now_ns());
      break;
    case kStatusA:
      interrupts_.write_a(value, wiring_.now_ns());
      break;
    case kStatusB:
      interrupts_.write_b(value, wiring_.now_ns());
      break;
    default:
      state_.bytes[index] = value;
      return;
  }
  update_line();
}

void CmosRtc::on_timer() noexcept {
  const std::lock_guard lock(mutex_);
  timer_->consume();
  interrupts_.advance(wiring_.now_ns());
  update_line();
}

/// The line is edge-triggered: the next interrupt is delivered once the guest has read register C.
void CmosRtc::update_line() noexcept {
  const uint8_t requested = interrupts_.requested();
  if (requested != 0 && !state_.asserted) {
    wiring_.interrupt.trigger();
    if ((requested & RtcInterrupts::kAlarm) != 0) wiring_.alarm();
  }
  state_.asserted = requested != 0;
  arm_timer();
}

void CmosRtc::arm_timer() noexcept {
  const std::optional<uint64_t> next = interrupts_.next_ns();
  if (!timer_) {
    if (!next) return;
    try {
      timer_.emplace(Timer::Clock::kWall);
      wiring_.loop.add(timer_->fd(), io::kReadable, [this](IoEvents) { on_timer(); });
    } catch (const std::exception&) {
      timer_.reset();
      return;  // out of descriptors or threads: a clock without interrupts
    }
  }
  if (next) {
    timer_->start_at(*next);
  } else {
    timer_->stop();
  }
}

}  // namespace tsvmm
