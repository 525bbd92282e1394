#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "core/event_fd.h"
#include "core/event_loop.h"
#include "core/host_output.h"
#include "device/byte_ring.h"
#include "device/char_backend.h"
#include "device/client_slot.h"
#include "device/tty_backend.h"

namespace tsvmm {

/// A terminal that can be left whatever the guest does: Ctrl-A x is an escape, Ctrl-A
/// Ctrl-A one Ctrl-A for the guest, and any other key after Ctrl-A goes to the guest along with it.
///
/// What is typed is read at once, because a guest that hangs has no room for input and the escape
/// is for just then; what the guest does not take waits here, as it would in the terminal.
class EscapableTerminal final : public CharBackend {
 public:
  /// Of what waits for the guest. More is lost, as by a terminal.
  static constexpr size_t kTypeAhead = 4096;

  /// `escape` is called on the loop's thread. Throws Error.
  EscapableTerminal(int input, int output, EventLoop& loop, std::function<void()> escape,
                    HostOutput::Lost lost = {});
  ~EscapableTerminal() override;
  EscapableTerminal(const EscapableTerminal&) = delete;
  EscapableTerminal& operator=(const EscapableTerminal&) = delete;

  void attach(CharClient* client) override;
  size_t write(std::span<const uint8_t> bytes) noexcept override { return terminal_.write(bytes); }
  void input_wanted() noexcept override { deliver_.signal(); }

 private:
  /// Stands between the terminal and the device.
  class Keys final : public CharClient {
   public:
    explicit Keys(EscapableTerminal& owner) : owner_(owner) {}
    size_t input_room() override { return kTypeAhead; }
    void input(std::span<const uint8_t> bytes) override { owner_.on_keys(bytes); }
    void output_ready() override { owner_.client_.output_ready(); }

   private:
    EscapableTerminal& owner_;
  };

  // On the loop's thread.
  void on_keys(std::span<const uint8_t> bytes);
  void on_key(uint8_t key);
  void type(uint8_t key);
  void deliver();

  EventLoop& loop_;
  const std::function<void()> escape_;
  ClientSlot client_;
  EventFd deliver_;
  ByteRing typed_{kTypeAhead};
  bool after_prefix_ = false;  ///< the last key was Ctrl-A
  Keys keys_{*this};
  TtyBackend terminal_;
};

}  // namespace tsvmm
