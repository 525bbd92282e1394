#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace tsvmm {

struct RtcInterruptState {
  uint8_t a = 0x26;                ///< no update in progress, 32.768 kHz time base, 1,024 Hz
  uint8_t b = 0x02;                ///< BCD, 24 hours, no interrupts
  uint8_t flags = 0;               ///< register C but for IRQF
  std::array<uint8_t, 3> alarm{};  ///< seconds, minutes, hours, as written
  uint64_t seen_ns = 0;            ///< UTC up to which `flags` tells what has happened
};

/// The registers A to C and the alarm of an MC146818: which of the chip's three interrupts has
/// happened and when the next is due. Arithmetic only; times are nanoseconds of UTC since 1970.
class RtcInterrupts {
 public:
  static constexpr uint8_t kUpdateEnded = 1U << 4;
  static constexpr uint8_t kAlarm = 1U << 5;
  static constexpr uint8_t kPeriodic = 1U << 6;
  static constexpr uint8_t kRequest = 1U << 7;

  /// The guest chooses the periodic rate, up to 8,192 Hz, and each interrupt takes the host's time:
  /// faster ones come at this rate.
  static constexpr uint64_t kMaxInterruptsPerSecond = 1024;

  explicit RtcInterrupts(uint64_t now_ns) { state_.seen_ns = now_ns; }
  explicit RtcInterrupts(const RtcInterruptState& state) : state_(state) {}
  [[nodiscard]] const RtcInterruptState& state() const noexcept { return state_; }

  [[nodiscard]] uint8_t a() const noexcept { return state_.a; }
  [[nodiscard]] uint8_t b() const noexcept { return state_.b; }
  /// `field` is 0 for seconds, 1 for minutes, 2 for hours.
  [[nodiscard]] uint8_t alarm(unsigned field) const noexcept { return state_.alarm.at(field); }
  void write_a(uint8_t value, uint64_t now_ns) noexcept;
  void write_b(uint8_t value, uint64_t now_ns) noexcept;
  void write_alarm(unsigned field, uint8_t value, uint64_t now_ns) noexcept;
  /// Reads register C, which clears it.
  uint8_t read_c(uint64_t now_ns) noexcept;

  /// Sets the flags of what has happened until now.
  void advance(uint64_t now_ns) noexcept;
  /// Flags whose interrupts are enabled: the chip holds its line while there is one.
  [[nodiscard]] uint8_t requested() const noexcept;
  /// When the line is next asserted; nothing while it is, or if no interrupt can come.
  [[nodiscard]] std::optional<uint64_t> next_ns() const noexcept;

 private:
  [[nodiscard]] bool counts() const noexcept;
  [[nodiscard]] bool updates() const noexcept;
  [[nodiscard]] uint64_t period_ticks() const noexcept;
  [[nodiscard]] std::optional<uint64_t> alarm_after(uint64_t second) const noexcept;

  RtcInterruptState state_;
};

}  // namespace tsvmm
