#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "core/event_fd.h"
#include "core/event_loop.h"
#include "core/host_output.h"
#include "core/unique_fd.h"
#include "device/byte_ring.h"
#include "device/char_backend.h"
#include "device/client_slot.h"

namespace tsvmm {

/// A pair of descriptors, usually standard input and output; without input also a file.
///
/// What a slow reader does not take is kept, up to kBacklog bytes; only then is more refused, so
/// that a guest that does not ask its UART before it writes loses nothing to a short delay.
class TtyBackend final : public CharBackend {
 public:
  static constexpr size_t kBacklog = 1 << 18;

  /// `input` may be -1. Throws Error.
  TtyBackend(int input, int output, EventLoop& loop, HostOutput::Lost lost = {});
  ~TtyBackend() override;
  TtyBackend(const TtyBackend&) = delete;
  TtyBackend& operator=(const TtyBackend&) = delete;

  void attach(CharClient* client) override;
  size_t write(std::span<const uint8_t> bytes) noexcept override;
  void input_wanted() noexcept override;

 private:
  enum class InputMode {
    kNone,        ///< no input, or its end was reached
    kPolled,      ///< one event each time it is asked for
    kBackground,  ///< a terminal that another job reads: one event for each key pressed
    kDirect,      ///< it cannot be waited for (a regular file, /dev/null): reading never waits
  };

  void watch_input();
  void on_input();
  void on_read_error(int error);
  void arm_input_locked();
  void on_writable();
  void flush_locked() noexcept;
  bool arm_output_locked() noexcept;
  [[nodiscard]] bool input_ready() const;

  EventLoop& loop_;
  ClientSlot client_;
  HostOutput output_;
  UniqueFd input_;
  std::optional<EventFd> direct_input_;  ///< kDirect: asks the loop to read
  std::mutex mutex_;
  InputMode input_mode_ = InputMode::kNone;
  bool input_wanted_ = true;
  bool input_watched_ = false;
  bool output_watched_ = false;
  ByteRing backlog_{kBacklog};
};

}  // namespace tsvmm
