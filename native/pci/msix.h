#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "hypervisor/hypervisor.h"

namespace tsvmm {

struct MsixState {
  struct Vector {
    uint32_t address_low = 0;
    uint32_t address_high = 0;
    uint32_t data = 0;
    uint32_t control = 1;  ///< bit 0: masked
    bool pending = false;
  };
  bool enabled = false;
  bool function_masked = false;
  std::vector<Vector> vectors;
};

/// A function's MSI-X table and pending bits (PCI 3.0 §6.8.2). Thread-safe.
///
/// A trigger of a masked vector sets its pending bit and is delivered when the vector is unmasked.
/// The hypervisor's interrupts are created when a vector is first unmasked, so that a function
/// without a driver costs none.
class MsixTable {
 public:
  static constexpr uint32_t kEntrySize = 16;

  MsixTable(InterruptFabric& fabric, uint16_t vectors);
  /// What sources have been signalled and not delivered is pending in it.
  [[nodiscard]] MsixState state() const;
  /// Of a table of as many vectors. Those that are not masked have their interrupts at once;
  /// sources are added anew. Throws Error.
  void restore(const MsixState& state);

  [[nodiscard]] uint16_t vectors() const { return static_cast<uint16_t>(entries_.size()); }
  /// Message Control's MSI-X Enable and Function Mask.
  void set_control(bool enabled, bool function_masked) noexcept;
  [[nodiscard]] bool enabled() const noexcept { return enabled_.load(std::memory_order_relaxed); }

  /// Interrupts the guest, or sets the pending bit; nothing if there is no such vector or while
  /// MSI-X is disabled.
  void trigger(uint16_t vector) noexcept;

  /// Makes signals of `source` triggers of `vector` by the hypervisor itself; while the vector is
  /// masked they stay in `source` as its pending bit. False if there is no such vector, MSI-X is
  /// disabled, or the hypervisor has no such path.
  [[nodiscard]] bool add_source(uint16_t vector, const EventFd& source) noexcept;
  /// The end of that; nothing if `source` was not added.
  void remove_source(const EventFd& source) noexcept;

  /// Offsets count from the table's start. Beyond the last entry reads give zeros and writes are
  /// dropped.
  void read_table(uint64_t offset, std::span<uint8_t> data) const noexcept;
  /// Aligned 4- and 8-byte writes; others are undefined by the specification and dropped here.
  void write_table(uint64_t offset, std::span<const uint8_t> data) noexcept;
  void read_pending(uint64_t offset, std::span<uint8_t> data) const noexcept;

 private:
  struct Source {
    const EventFd* event;
    bool connected = false;
  };
  struct Entry {
    MsixState::Vector vector;
    bool programmed = false;  ///< `interrupt` delivers `message`
    std::vector<Source> sources;
    MsiMessage message;
    std::unique_ptr<Interrupt> interrupt;
  };

  [[nodiscard]] bool live(const Entry& entry) const noexcept;
  [[nodiscard]] static bool waiting(const Entry& entry) noexcept;
  void update(Entry& entry) noexcept;
  void write_register(uint64_t offset, uint32_t value) noexcept;
  [[nodiscard]] uint8_t table_byte(uint64_t offset) const noexcept;

  InterruptFabric& fabric_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::atomic<bool> enabled_ = false;  ///< written under the lock
  bool function_masked_ = false;
};

}  // namespace tsvmm
