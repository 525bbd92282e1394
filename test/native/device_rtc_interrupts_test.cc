// The clock's interrupts as arithmetic: which flags a time sets, and when the next interrupt is
// due.

#include <gtest/gtest.h>

#include <array>

#include "device/x86_64/rtc_interrupts.h"

namespace tsvmm {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;
constexpr uint64_t kDay = 24 * kHour;
/// A day's beginning.
constexpr uint64_t kMidnight = 20'000 * kDay;

constexpr uint8_t kOff = 0x02;
constexpr uint8_t kUpdates = 0x12;
constexpr uint8_t kAlarms = 0x22;
constexpr uint8_t kPeriods = 0x42;

void set_alarm(RtcInterrupts& clock, uint8_t hours, uint8_t minutes, uint8_t seconds,
               uint64_t now) {
  clock.write_alarm(0, seconds, now);
  clock.write_alarm(1, minutes, now);
  clock.write_alarm(2, hours, now);
}

TEST(RtcInterrupts, WaitForNothingAtFirst) {
  RtcInterrupts clock(kMidnight);
  EXPECT_EQ(clock.a(), 0x26);
  EXPECT_EQ(clock.b(), 0x02);
  EXPECT_EQ(clock.requested(), 0);
  EXPECT_FALSE(clock.next_ns());
}

TEST(RtcInterrupts, FlagsAreSetWithoutInterruptsAndClearedByReading) {
  RtcInterrupts clock(kMidnight);
  set_alarm(clock, 0x00, 0x00, 0x05, kMidnight);
  EXPECT_EQ(clock.read_c(kMidnight + kSecond / 2), RtcInterrupts::kPeriodic);
  EXPECT_EQ(clock.read_c(kMidnight + kSecond / 2), 0);
  EXPECT_EQ(clock.read_c(kMidnight + kSecond),
            RtcInterrupts::kPeriodic | RtcInterrupts::kUpdateEnded);
  EXPECT_EQ(clock.read_c(kMidnight + 5 * kSecond),
            RtcInterrupts::kPeriodic | RtcInterrupts::kUpdateEnded | RtcInterrupts::kAlarm);
  EXPECT_FALSE(clock.next_ns());
}

TEST(RtcInterrupts, EnablingWhatHasHappenedRequestsAtOnce) {
  RtcInterrupts clock(kMidnight);
  clock.advance(kMidnight + kSecond);
  clock.write_b(kUpdates, kMidnight + kSecond);
  EXPECT_EQ(clock.requested(), RtcInterrupts::kUpdateEnded);
  EXPECT_FALSE(clock.next_ns());
  EXPECT_EQ(clock.read_c(kMidnight + kSecond) & RtcInterrupts::kRequest, RtcInterrupts::kRequest);
  EXPECT_EQ(clock.requested(), 0);
  EXPECT_EQ(clock.next_ns(), kMidnight + 2 * kSecond);
}

TEST(RtcInterrupts, UpdatesEndEachSecondUnlessSet) {
  RtcInterrupts clock(kMidnight);
  clock.write_b(kUpdates, kMidnight + 1);
  EXPECT_EQ(clock.next_ns(), kMidnight + kSecond);
  // The bit SET stops them and clears their enable bit.
  clock.write_b(kUpdates | 0x80, kMidnight + 2);
  EXPECT_EQ(clock.b(), 0x82);
  EXPECT_FALSE(clock.next_ns());
  EXPECT_EQ(clock.read_c(kMidnight + 2 * kSecond) & RtcInterrupts::kUpdateEnded, 0);
}

TEST(RtcInterrupts, AlarmAtATimeOfDay) {
  RtcInterrupts clock(kMidnight + 12 * kHour);
  set_alarm(clock, 0x12, 0x34, 0x56, kMidnight + 12 * kHour);
  clock.write_b(kAlarms, kMidnight + 12 * kHour);
  const uint64_t due = kMidnight + 12 * kHour + (34 * 60 + 56) * kSecond;
  EXPECT_EQ(clock.next_ns(), due);
  clock.advance(due - 1);
  EXPECT_EQ(clock.requested(), 0);
  clock.advance(due);
  EXPECT_EQ(clock.requested(), RtcInterrupts::kAlarm);
  (void)clock.read_c(due);
  EXPECT_EQ(clock.next_ns(), due + kDay);
}

TEST(RtcInterrupts, AlarmWithFieldsThatMatchAnything) {
  RtcInterrupts clock(kMidnight);
  const uint64_t now = kMidnight + 59 * 60 * kSecond + 30 * kSecond;
  clock.write_b(kAlarms, now);
  const auto next = [&](uint8_t hours, uint8_t minutes, uint8_t seconds) {
    set_alarm(clock, hours, minutes, seconds, now);
    return *clock.next_ns() - kMidnight;
  };
  EXPECT_EQ(next(0xFF, 0xC0, 0xFF), 59 * 60 * kSecond + 31 * kSecond);
  EXPECT_EQ(next(0xFF, 0xFF, 0x29), kHour + 29 * kSecond);
  EXPECT_EQ(next(0xFF, 0x58, 0x00), kHour + 58 * 60 * kSecond);
  EXPECT_EQ(next(0x23, 0xFF, 0xFF), 23 * kHour);
  EXPECT_EQ(next(0x00, 0x00, 0x00), kDay);
}

TEST(RtcInterrupts, AlarmAtNoTimeNeverComes) {
  RtcInterrupts clock(kMidnight);
  clock.write_b(kAlarms, kMidnight);
  for (const auto& [hours, minutes, seconds] : {std::array<uint8_t, 3>{0x24, 0xFF, 0xFF},
                                                {0xFF, 0x60, 0xFF},
                                                {0xFF, 0xFF, 0x6F},
                                                {0x1A, 0xFF, 0xFF},
                                                {0xBF, 0xBF, 0xBF}}) {
    set_alarm(clock, hours, minutes, seconds, kMidnight);
    EXPECT_FALSE(clock.next_ns());
  }
  clock.advance(kMidnight + 3 * kDay);
  EXPECT_EQ(clock.requested(), 0);
}

TEST(RtcInterrupts, PeriodsOfEveryRate) {
  RtcInterrupts clock(kMidnight);
  clock.write_b(kPeriods, kMidnight);
  clock.write_a(0x20, kMidnight);
  EXPECT_FALSE(clock.next_ns());
  const auto period = [&](uint8_t rate) {
    clock.write_a(0x20 | rate, kMidnight);
    return *clock.next_ns() - kMidnight;
  };
  constexpr uint64_t k1024Hz = 976'563;  // nanoseconds, rounded up
  EXPECT_EQ(period(15), kSecond / 2);
  EXPECT_EQ(period(9), kSecond / 128);
  EXPECT_EQ(period(2), kSecond / 128);
  EXPECT_EQ(period(8), kSecond / 256);
  EXPECT_EQ(period(1), kSecond / 256);
  EXPECT_EQ(period(6), k1024Hz);
  // The guest's flag is set at its rate, the host is woken at most 1,024 times a second.
  EXPECT_EQ(period(3), k1024Hz);
  EXPECT_EQ(clock.read_c(kMidnight + kSecond / 8192 + 1) & RtcInterrupts::kPeriodic,
            RtcInterrupts::kPeriodic);
  // A divider chain that is held, or divides something else, counts nothing.
  clock.write_a(0x66, kMidnight);
  EXPECT_FALSE(clock.next_ns());
}

TEST(RtcInterrupts, AClockThatIsSetBackAndForth) {
  RtcInterrupts clock(kMidnight + 12 * kHour);
  set_alarm(clock, 0x10, 0x00, 0x00, kMidnight + 12 * kHour);
  clock.write_b(kAlarms, kMidnight + 12 * kHour);
  EXPECT_EQ(clock.next_ns(), kMidnight + kDay + 10 * kHour);
  clock.advance(kMidnight + 9 * kHour);
  EXPECT_EQ(clock.requested(), 0);
  EXPECT_EQ(clock.next_ns(), kMidnight + 10 * kHour);
  clock.advance(kMidnight + 11 * kHour);
  EXPECT_EQ(clock.requested(), RtcInterrupts::kAlarm);
}

TEST(RtcInterrupts, KeepNothingThatIsNotThere) {
  RtcInterrupts clock(kMidnight);
  clock.write_a(0xFF, kMidnight);
  EXPECT_EQ(clock.a(), 0x7F);
  clock.write_b(0x7F, kMidnight);
  EXPECT_EQ(clock.b(), 0x72);
  clock.write_b(kOff, kMidnight);
  EXPECT_EQ(clock.b(), 0x02);
}

}  // namespace
}  // namespace tsvmm
