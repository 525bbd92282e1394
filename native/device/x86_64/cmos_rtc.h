#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "core/event_loop.h"
#include "core/timer.h"
#include "device/byte_device.h"
#include "device/x86_64/rtc_interrupts.h"
#include "hypervisor/hypervisor.h"

namespace tsvmm {

struct CmosState {
  uint8_t index = 0;                 ///< as written, with the NMI-disable bit 7
  std::array<uint8_t, 128> bytes{};  ///< battery-backed RAM; the clock's registers in it are unused
  RtcInterruptState interrupts;
  bool asserted = false;  ///< the chip's interrupt line
};

/// CLOCK_REALTIME in nanoseconds.
uint64_t realtime_ns() noexcept;

/// An MC146818 clock with 128 bytes of CMOS RAM. The clock shows the host's UTC in BCD and 24-hour
/// form, never says that an update is in progress and cannot be set. Its alarm, update and periodic
/// interrupts follow the host's clock, also when that is set.
class CmosRtc final : public ByteDevice {
 public:
  /// Ports: index, data.
  static constexpr uint64_t kSize = 2;

  struct Memory {
    uint64_t below_4g = 0;  ///< bytes, which the CMOS reports
    uint64_t above_4g = 0;
  };
  struct Wiring {
    EventLoop& loop;
    Interrupt& interrupt;         ///< one pulse each time the chip asserts its line
    std::function<void()> alarm;  ///< the alarm was among the reasons; any thread
    std::function<void()> reset;  ///< on the vCPU thread that writes 0 at index 0x8F
    uint64_t (*now_ns)() noexcept = realtime_ns;
  };

  /// What `wiring` refers to outlives this device.
  CmosRtc(const Memory& memory, Wiring wiring);
  CmosRtc(const CmosState& state, Wiring wiring);
  ~CmosRtc() override;
  CmosRtc(const CmosRtc&) = delete;
  CmosRtc& operator=(const CmosRtc&) = delete;
  [[nodiscard]] CmosState state() const;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;
  [[nodiscard]] uint8_t read_indexed(uint8_t index);
  void write_indexed(uint8_t index, uint8_t value);
  void on_timer() noexcept;
  void update_line() noexcept;
  void arm_timer() noexcept;

  const Wiring wiring_;
  mutable std::mutex mutex_;
  CmosState state_;  ///< but for what `interrupts_` has
  RtcInterrupts interrupts_;
  std::optional<Timer> timer_;  ///< from the first interrupt that the guest waits for
};

}  // namespace tsvmm
