#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "device/byte_ring.h"
#include "device/char_backend.h"
#include "device/client_slot.h"

namespace tsvmm {

/// The master of a pseudo terminal. While nobody has the slave open, output is kept in a ring.
class PtyBackend final : public CharBackend {
 public:
  /// Bytes of output kept until somebody opens the slave.
  static constexpr size_t kRingSize = 1 << 20;

  /// Throws Error. Makes the master non-blocking: it is the virtual machine's alone.
  PtyBackend(int master, EventLoop& loop);
  ~PtyBackend() override;
  PtyBackend(const PtyBackend&) = delete;
  PtyBackend& operator=(const PtyBackend&) = delete;

  void attach(CharClient* client) override;
  size_t write(std::span<const uint8_t> bytes) noexcept override;
  void input_wanted() noexcept override;

 private:
  void watch_slave();
  void on_slave_opened();
  void on_master(uint32_t events);
  void look_at_size();
  bool take_input();
  void turn_lone_line_feed(std::span<uint8_t> bytes);

  // All below: with mutex_ held.
  void refresh_connection() noexcept;
  void flush() noexcept;
  void arm() noexcept;
  size_t write_master(std::span<const uint8_t> bytes) noexcept;

  EventLoop& loop_;
  ClientSlot client_;
  UniqueFd master_;
  UniqueFd opened_;               ///< inotify on the slave; invalid if the host has none
  uint32_t size_ = 0;             ///< loop thread: columns and rows that the client was told
  bool input_continues_ = false;  ///< loop thread: the last read left bytes behind
  std::mutex mutex_;
  ByteRing ring_{kRingSize};
  bool connected_ = false;  ///< somebody has the slave open
  bool input_wanted_ = true;
  bool output_wanted_ = false;
};

}  // namespace tsvmm
