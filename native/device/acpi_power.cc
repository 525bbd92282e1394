#include "device/acpi_power.h"

namespace tsvmm {
namespace {

// ACPI 6.5 §4.8.3.6, sleep control register: SLP_TYPx in bits 2 to 4, SLP_EN in bit 5. The other
// bits are reserved. PM1 control has both 8 bits higher (§4.8.3.2.1).
constexpr uint8_t kSleepMask = 0x3C;
constexpr uint8_t kSleepType5Enable = 5U << 2 | 1U << 5;
constexpr uint8_t kReset = 1;

}  // namespace

AcpiPower::AcpiPower(std::function<void()> power_off, std::function<void()> reset)
    : ByteDevice(kSize), power_off_(std::move(power_off)), reset_(std::move(reset)) {}

bool AcpiPower::is_power_off(uint8_t value) { return (value & kSleepMask) == kSleepType5Enable; }

uint8_t AcpiPower::read_register(uint64_t /*offset*/) { return 0; }

void AcpiPower::write_register(uint64_t /*offset*/, uint8_t value) {
  if (is_power_off(value)) {
    power_off_();
  } else if (value == kReset) {
    reset_();
  }
}

}  // namespace tsvmm
