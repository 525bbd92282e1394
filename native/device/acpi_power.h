#pragma once

#include <cstdint>
#include <functional>

#include "device/byte_device.h"

namespace tsvmm {

/// The sleep control, sleep status and reset register of hardware-reduced ACPI in one byte
/// (ACPI 6.5 §4.8.3.6, §4.8.3.7).
class AcpiPower final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;

  /// Both run on the vCPU thread that writes the register: 0x34 (sleep type 5, enable) and 1.
  AcpiPower(std::function<void()> power_off, std::function<void()> reset);

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  const std::function<void()> power_off_;
  const std::function<void()> reset_;
};

}  // namespace tsvmm
