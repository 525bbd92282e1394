#pragma once

#include <cstdint>
#include <functional>

#include "device/byte_device.h"

namespace tsvmm {

/// The sleep control, sleep status and reset register in one byte (ACPI 6.5 §4.8.3.6, §4.8.3.7):
/// how guests turn themselves off that know hardware-reduced ACPI only.
class AcpiPower final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;

  /// Both run on the vCPU thread that writes the register: 0x34 (sleep type 5, enable) and 1.
  AcpiPower(std::function<void()> power_off, std::function<void()> reset);

  /// Whether a sleep control register, or the upper half of PM1 control, that is written so turns
  /// the machine off.
  static bool is_power_off(uint8_t value);

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  const std::function<void()> power_off_;
  const std::function<void()> reset_;
};

}  // namespace tsvmm
