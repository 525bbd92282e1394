#pragma once

#include <atomic>
#include <cstdint>

#include "device/byte_device.h"
#include "hypervisor/hypervisor.h"

namespace tsvmm {

struct GedState {
  uint8_t pending = 0;  ///< events that the guest has not read
};

/// What lies behind the Generic Event Device of the DSDT (ACPI 6.5 §5.6.9): one byte of pending
/// events that a read clears. Its bits are the platform's.
class Ged final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;
  static constexpr uint8_t kCpu = 1U << 0;
  static constexpr uint8_t kMemory = 1U << 1;
  static constexpr uint8_t kPci = 1U << 2;
  static constexpr uint8_t kPowerButton = 1U << 3;
  static constexpr uint8_t kVmGeneration = 1U << 4;

  /// `interrupt` must outlive this device.
  explicit Ged(Interrupt& interrupt, const GedState& state = {});
  [[nodiscard]] GedState state() const noexcept { return {.pending = pending_.load()}; }

  /// Adds `bits` to the pending events and interrupts the guest. Any thread.
  void notify(uint8_t bits) noexcept;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  Interrupt& interrupt_;
  std::atomic<uint8_t> pending_;
};

}  // namespace tsvmm
