#include "device/acpi_pm_timer.h"

#include "core/monotonic.h"

namespace tsvmm {
namespace {

constexpr uint64_t kFrequency = 3'579'545;
constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

AcpiPmTimer::AcpiPmTimer(const AcpiPmTimerState& state)
    : start_ns_(monotonic_ns() - state.elapsed_ns) {}

AcpiPmTimerState AcpiPmTimer::state() const noexcept {
  return {.elapsed_ns = monotonic_ns() - start_ns_};
}

uint32_t AcpiPmTimer::ticks(uint64_t ns) {
  const uint64_t seconds = ns / kNanosecondsPerSecond;
  const uint64_t rest = ns % kNanosecondsPerSecond;
  return static_cast<uint32_t>(seconds * kFrequency + rest * kFrequency / kNanosecondsPerSecond);
}

void AcpiPmTimer::read(uint64_t offset, std::span<uint8_t> data) {
  // One reading for the whole access: a 32-bit read must not mix two of them.
  const uint32_t now = ticks(monotonic_ns() - start_ns_);
  for (uint8_t& byte : data) {
    byte = offset < kSize ? static_cast<uint8_t>(now >> (8 * offset)) : 0xFF;
    ++offset;
  }
}

void AcpiPmTimer::write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) {}

}  // namespace tsvmm
