#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "bus/bus_device.h"

namespace tsvmm {

struct CpuHotplugState {
  struct Cpu {
    bool present = false;
    bool inserted = false;  ///< until the guest has acknowledged it
    bool removing = false;  ///< the same
    bool awaited = false;   ///< its removal was asked for, and it is not ejected yet
  };

  uint32_t selected = 0;  ///< that the other registers are of
  std::vector<Cpu> cpus;  ///< by index, all that there may ever be

  /// Of a machine that starts with the first `present` of `most`.
  [[nodiscard]] static CpuHotplugState starting(unsigned present, unsigned most);
};

/// The CPU hot-plug controller of the SSDT's \_SB.PRES: which vCPUs are there, which have come,
/// which are to be given up, and the bit by which the guest gives one up. The select register takes
/// 32-bit accesses; of accesses to the status register the first byte counts. Others read zeros and
/// write nothing.
///
/// A guest ejects only what it was asked to give up: other vCPUs, vCPU 0 always among them, and a
/// second ejection, do nothing.
class CpuHotplug final : public BusDevice {
 public:
  static constexpr uint64_t kSize = 12;

  /// `notify` interrupts the guest; any thread, and no lock is held. `ejected` runs on the vCPU
  /// thread that ejects, and must return at once, without calling this object.
  CpuHotplug(CpuHotplugState state, std::function<void()> notify,
             std::function<void(unsigned cpu)> ejected);
  [[nodiscard]] CpuHotplugState state() const;
  /// How many there may ever be.
  [[nodiscard]] size_t most() const noexcept { return state_.cpus.size(); }

  /// These vCPUs are there now. Those that cannot be are left out. Any thread.
  void insert(std::span<const unsigned> cpus);
  /// Asks the guest to give up all that are there from `first` on; asking again reminds it. Any
  /// thread.
  void request_removal(unsigned first);

  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  [[nodiscard]] uint8_t read_status() const noexcept;
  [[nodiscard]] bool write_status(uint8_t value, unsigned& ejected) noexcept;

  const std::function<void()> notify_;
  const std::function<void(unsigned)> ejected_;
  mutable std::mutex mutex_;
  CpuHotplugState state_;
};

}  // namespace tsvmm
