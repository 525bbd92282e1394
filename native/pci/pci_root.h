#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "bus/address_space.h"
#include "bus/bus_device.h"
#include "pci/pci_function.h"

namespace tsvmm {

/// Where BARs may lie, in guest physical addresses.
struct PciWindow {
  uint64_t start = 0;
  uint64_t size = 0;
};

/// One PCI segment with one bus of 32 single-function slots. What a guest sees of it is the state
/// of its functions.
///
/// BARs follow when the guest moves them. A BAR that is outside both windows, or collides with a
/// decoded one, is not decoded; after each change every such BAR is tried again, in slot order, so
/// that the outcome depends on the register values and the order of the guest's writes only.
class PciRoot {
 public:
  static constexpr unsigned kSlots = 32;
  static constexpr unsigned kFunctionsPerSlot = 8;
  /// Bytes of enhanced configuration space (ECAM): of a function, and of the bus.
  static constexpr uint64_t kFunctionSize = 4096;
  static constexpr uint64_t kEcamSize = kSlots * kFunctionsPerSlot * kFunctionSize;

  /// `mmio` must outlive the root.
  PciRoot(AddressSpace& mmio, PciWindow window32, PciWindow window64);
  ~PciRoot();
  PciRoot(const PciRoot&) = delete;
  PciRoot& operator=(const PciRoot&) = delete;

  /// Puts a function into a free slot (0 to 31) and decodes its BARs. Throws Error if the slot is
  /// taken or out of range, or if a BAR that asks for decoding cannot have its address.
  void add(unsigned slot, std::shared_ptr<PciFunction> function);

  /// Takes a function out of its slot: the guest finds nothing there from the return on. nullptr if
  /// the slot was empty. An access in progress may still end on the function. Any thread, except
  /// from within a call of a function.
  [[nodiscard]] std::shared_ptr<PciFunction> remove(unsigned slot);

  /// Leaves a function in its slot for a guest that has not given it up, with nothing behind it:
  /// PciFunction::removed().
  void disconnect(unsigned slot) noexcept;

  /// For the enhanced configuration space (PCI Express 3.0 §7.2.2); bus 0 only, others read all
  /// ones.
  [[nodiscard]] std::shared_ptr<BusDevice> ecam() const { return ecam_; }

  /// An access to the configuration space of a slot (0 to 31), below 4096. Does nothing if the slot
  /// is empty.
  void config_read(unsigned slot, uint32_t offset, std::span<uint8_t> data);
  void config_write(unsigned slot, uint32_t offset, std::span<const uint8_t> data);

 private:
  class EcamDevice;
  struct Slot {
    std::shared_ptr<PciFunction> function;
    std::array<std::optional<PciWindow>, PciFunction::kBarCount> decoded;
  };

  void clear(Slot& slot);
  void update_decoding();
  void drop_changed_bars();
  void decode_bar(Slot& slot, unsigned index);
  [[nodiscard]] bool in_a_window(const PciWindow& range) const;

  AddressSpace& mmio_;
  const PciWindow window32_;
  const PciWindow window64_;
  std::shared_ptr<BusDevice> ecam_;

  std::mutex mutex_;  ///< everything below, and every call of a PciFunction
  std::array<Slot, kSlots> slots_;
};

}  // namespace tsvmm
