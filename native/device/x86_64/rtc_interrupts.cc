#include "device/x86_64/rtc_interrupts.h"

#include <algorithm>

namespace tsvmm {
namespace {

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
/// Ticks of the time base in a second.
constexpr uint64_t kTimeBase = 32'768;

// Register A: update in progress, the divider chain's control, the periodic rate.
constexpr uint8_t kUpdateInProgress = 1U << 7;
constexpr uint8_t kDividerMask = 7U << 4;
constexpr uint8_t kDivider32KHz = 2U << 4;
constexpr uint8_t kRateMask = 0xF;

// Register B. Binary mode, 12 hours and daylight saving are not there.
constexpr uint8_t kSet = 1U << 7;
constexpr uint8_t kInterrupts =
    RtcInterrupts::kPeriodic | RtcInterrupts::kAlarm | RtcInterrupts::kUpdateEnded;
constexpr uint8_t k24Hours = 1U << 1;

/// An alarm register with its two upper bits set matches every value.
constexpr uint8_t kAlarmAny = 0xC0;

constexpr unsigned kSeconds = 0;
constexpr unsigned kMinutes = 1;
constexpr unsigned kHours = 2;

uint64_t ticks_at(uint64_t ns) {
  const uint64_t rest = ns % kNanosecondsPerSecond * kTimeBase / kNanosecondsPerSecond;
  return ns / kNanosecondsPerSecond * kTimeBase + rest;
}

/// The first nanosecond at which there have been as many.
uint64_t ns_of(uint64_t ticks) {
  const uint64_t rest = ticks % kTimeBase * kNanosecondsPerSecond;
  return ticks / kTimeBase * kNanosecondsPerSecond + (rest + kTimeBase - 1) / kTimeBase;
}

uint8_t bcd(uint64_t value) { return static_cast<uint8_t>(value / 10 << 4 | value % 10); }

bool matches(uint8_t alarm, uint64_t value) {
  return (alarm & kAlarmAny) == kAlarmAny || alarm == bcd(value);
}

bool can_match(uint8_t alarm, uint64_t values) {
  if ((alarm & kAlarmAny) == kAlarmAny) return true;
  const unsigned units = alarm & 0xF;
  return units <= 9 && (alarm >> 4) * 10U + units < values;
}

}  // namespace

void RtcInterrupts::write_a(uint8_t value, uint64_t now_ns) noexcept {
  advance(now_ns);
  state_.a = static_cast<uint8_t>(value & ~kUpdateInProgress);
}

void RtcInterrupts::write_b(uint8_t value, uint64_t now_ns) noexcept {
  advance(now_ns);
  state_.b = static_cast<uint8_t>((value & (kSet | kInterrupts)) | k24Hours);
  if ((value & kSet) != 0) state_.b &= static_cast<uint8_t>(~kUpdateEnded);  // as the chip does
}

void RtcInterrupts::write_alarm(unsigned field, uint8_t value, uint64_t now_ns) noexcept {
  advance(now_ns);
  state_.alarm.at(field) = value;
}

uint8_t RtcInterrupts::read_c(uint64_t now_ns) noexcept {
  advance(now_ns);
  const uint8_t flags = state_.flags;
  const uint8_t request = requested() != 0 ? kRequest : 0;
  state_.flags = 0;
  return flags | request;
}

void RtcInterrupts::advance(uint64_t now_ns) noexcept {
  const uint64_t before = state_.seen_ns;
  state_.seen_ns = now_ns;
  if (now_ns <= before) return;  // the host's clock was set back
  const uint64_t period = period_ticks();
  if (period != 0 && ticks_at(now_ns) / period > ticks_at(before) / period) {
    state_.flags |= kPeriodic;
  }
  if (!updates()) return;
  const uint64_t second = now_ns / kNanosecondsPerSecond;
  const uint64_t last = before / kNanosecondsPerSecond;
  if (second > last) state_.flags |= kUpdateEnded;
  if (const auto alarm = alarm_after(last); alarm && *alarm <= second) state_.flags |= kAlarm;
}

uint8_t RtcInterrupts::requested() const noexcept { return state_.flags & state_.b & kInterrupts; }

std::optional<uint64_t> RtcInterrupts::next_ns() const noexcept {
  if (requested() != 0) return std::nullopt;
  std::optional<uint64_t> next;
  const auto consider = [&next](uint64_t at) { next = next ? std::min(*next, at) : at; };
  if (const uint64_t period = period_ticks(); period != 0 && (state_.b & kPeriodic) != 0) {
    const uint64_t step = std::max(period, kTimeBase / kMaxInterruptsPerSecond);
    consider(ns_of((ticks_at(state_.seen_ns) / step + 1) * step));
  }
  if (!updates()) return next;
  const uint64_t second = state_.seen_ns / kNanosecondsPerSecond;
  if ((state_.b & kUpdateEnded) != 0) consider((second + 1) * kNanosecondsPerSecond);
  if ((state_.b & kAlarm) != 0) {
    if (const auto alarm = alarm_after(second)) consider(*alarm * kNanosecondsPerSecond);
  }
  return next;
}

bool RtcInterrupts::counts() const noexcept { return (state_.a & kDividerMask) == kDivider32KHz; }

bool RtcInterrupts::updates() const noexcept { return counts() && (state_.b & kSet) == 0; }

/// 0 if there is no periodic interrupt. The two fastest rates of the 32.768 kHz time base are those
/// of codes 8 and 9.
uint64_t RtcInterrupts::period_ticks() const noexcept {
  const unsigned rate = state_.a & kRateMask;
  if (rate == 0 || !counts()) return 0;
  return uint64_t{1} << ((rate <= 2 ? rate + 7 : rate) - 1);
}

/// The first second after `second` that the alarm matches, which is at most a day later.
std::optional<uint64_t> RtcInterrupts::alarm_after(uint64_t second) const noexcept {
  const auto& alarm = state_.alarm;
  if (!can_match(alarm[kSeconds], 60) || !can_match(alarm[kMinutes], 60) ||
      !can_match(alarm[kHours], 24)) {
    return std::nullopt;
  }
  // Whole hours and minutes that do not match are passed at once, so this takes some 200 turns.
  uint64_t at = second + 1;
  for (;;) {
    if (!matches(alarm[kHours], at / 3600 % 24)) {
      at = (at / 3600 + 1) * 3600;
    } else if (!matches(alarm[kMinutes], at / 60 % 60)) {
      at = (at / 60 + 1) * 60;
    } else if (!matches(alarm[kSeconds], at % 60)) {
      ++at;
    } else {
      return at;
    }
  }
}

}  // namespace tsvmm
