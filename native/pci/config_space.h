#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "pci/pci_function.h"

namespace tsvmm {

/// Registers of a type 0 header (PCI 3.0 §6.1).
namespace pci_register {
inline constexpr uint32_t kCommand = 0x04;
inline constexpr uint32_t kStatus = 0x06;
inline constexpr uint32_t kBar0 = 0x10;
inline constexpr uint32_t kBarsEnd = 0x28;
inline constexpr uint32_t kCapabilities = 0x34;
inline constexpr uint32_t kInterruptLine = 0x3c;
}  // namespace pci_register

inline constexpr uint16_t kPciCommandMemory = 1 << 1;
inline constexpr uint16_t kPciCommandBusMaster = 1 << 2;

struct PciIdentity {
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint8_t revision = 0;
  uint8_t class_code = 0;
  uint8_t subclass = 0;
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem = 0;
};

struct ConfigSpaceState {
  std::array<uint8_t, 256> values{};
};

/// The 256 bytes of a type 0 configuration header: values, and which bits a guest may change.
class ConfigSpace {
 public:
  static constexpr uint32_t kSize = sizeof(ConfigSpaceState::values);

  explicit ConfigSpace(const PciIdentity& identity);

  /// Adds a memory BAR of `size` bytes (a power of two, at least 16) at `address`; a 64-bit one
  /// takes index + 1, too.
  void add_memory_bar(unsigned index, uint64_t size, bool is_64bit, uint64_t address);
  /// Appends a capability to the list; `body` follows the id and next bytes. `writable` are the
  /// bits of `body` that a guest may change (empty: none). Returns its offset.
  uint32_t add_capability(uint8_t id, std::span<const uint8_t> body,
                          std::span<const uint8_t> writable = {});
  /// Sets COMMAND as firmware would.
  void set_command(uint16_t command);

  /// offset + data.size() is at most 256.
  void read(uint32_t offset, std::span<uint8_t> data) const noexcept;
  void write(uint32_t offset, std::span<const uint8_t> data) noexcept;

  [[nodiscard]] const ConfigSpaceState& state() const noexcept { return state_; }
  /// Of a header with the same identity, BARs and capabilities: takes over what a guest may change.
  void restore(const ConfigSpaceState& state) noexcept { write(0, state.values); }

  [[nodiscard]] std::optional<BarRequest> bar(unsigned index) const noexcept;
  template <typename T>
  [[nodiscard]] T get(uint32_t offset) const noexcept;

 private:
  struct Bar {
    uint64_t size = 0;
    bool is_64bit = false;
  };
  template <typename T>
  void set(uint32_t offset, T value, T writable);

  ConfigSpaceState state_;
  std::array<uint8_t, kSize> writable_{};
  std::array<Bar, PciFunction::kBarCount> bars_{};
  uint32_t last_capability_ = 0;     ///< offset, 0 while there is none
  uint32_t next_capability_ = 0x40;  ///< the first free byte
};

}  // namespace tsvmm
