#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "bus/bus_device.h"
#include "hypervisor/hypervisor.h"
#include "hypervisor/x86_64/apic.h"

namespace tsvmm {

struct IoApicState {
  uint8_t id = 0;
  uint8_t select = 0;                               ///< IOREGSEL
  std::array<uint64_t, kIoApicPins> redirection{};  ///< the 64-bit entries of the data sheet §3.2.4
  uint32_t asserted = 0;                            ///< pins held by set_level()
};

/// The MSI that a redirection entry stands for (SDM vol. 3 §11.11), with the destination's bits 8
/// to 14 where KVM_FEATURE_MSI_EXT_DEST_ID has them: entry bits 49 to 55, address bits 5 to 11.
MsiMessage ioapic_entry_to_msi(uint64_t entry);

/// An 82093AA I/O APIC with 24 pins whose interrupts leave as MSIs through the hypervisor (KVM's
/// split irqchip). Pins that no device asked for have no line in the hypervisor and cost nothing.
class IoApic final : public BusDevice {
 public:
  static constexpr unsigned kPins = kIoApicPins;
  /// Bytes of MMIO.
  static constexpr uint64_t kSize = 0x20;

  /// `fabric` must outlive this device.
  explicit IoApic(InterruptFabric& fabric);
  /// Pins that are held in `state` are their devices' to release.
  IoApic(InterruptFabric& fabric, const IoApicState& state);
  ~IoApic() override;
  IoApic(const IoApic&) = delete;
  IoApic& operator=(const IoApic&) = delete;
  [[nodiscard]] IoApicState state() const;

  /// The line of a device at `pin` (below kPins); each trigger is one pulse. Lives as long as the
  /// I/O APIC, which alone sets its message: set_message() of the returned line is refused. Throws
  /// Error when lines run out.
  Interrupt& pin_line(unsigned pin);
  /// Holds or releases a level-triggered pin (whose pin_line() was asked for). Any thread.
  void set_level(unsigned pin, bool asserted) noexcept;
  /// A local APIC ended a level-triggered interrupt of `vector` (KVM_EXIT_IOAPIC_EOI). Pins still
  /// held are delivered again.
  void eoi(uint8_t vector) noexcept;

  /// Only aligned 32-bit accesses to IOREGSEL (0x00) and IOWIN (0x10) do anything by the data
  /// sheet; narrower ones take the register's low bytes, wider ones its 32 bits, zero-extended.
  /// Elsewhere reads are 0 and writes dropped.
  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  class Pin;

  [[nodiscard]] uint32_t read_window() const;
  void write_window(uint32_t value);
  void write_entry(unsigned pin, uint64_t value);
  void pulse(unsigned pin) noexcept;
  void deliver(unsigned pin) noexcept;
  void route(unsigned pin) noexcept;

  InterruptFabric& fabric_;
  mutable std::mutex mutex_;
  IoApicState state_;
  std::array<std::unique_ptr<Pin>, kPins> pins_;
};

}  // namespace tsvmm
