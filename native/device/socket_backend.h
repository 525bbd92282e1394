#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "device/byte_ring.h"
#include "device/char_backend.h"
#include "device/client_slot.h"
#include "device/output_readers.h"

namespace tsvmm {

/// A listening stream socket with one peer at a time; a new one replaces the old. Besides it there
/// may be readers (core/reader_name.h), for whom neither the guest nor the peer waits. The last
/// output is kept and shown to each newcomer from its oldest byte on.
class SocketBackend final : public CharBackend {
 public:
  /// Bytes of output kept.
  static constexpr size_t kRingSize = 1 << 20;

  /// Throws Error. Makes the listener non-blocking.
  SocketBackend(int listener, EventLoop& loop);
  ~SocketBackend() override;
  SocketBackend(const SocketBackend&) = delete;
  SocketBackend& operator=(const SocketBackend&) = delete;

  void attach(CharClient* client) override;
  size_t write(std::span<const uint8_t> bytes) noexcept override;
  void input_wanted() noexcept override;

 private:
  /// Who has connected.
  struct Newcomer {
    UniqueFd fd;  ///< invalid if there is nobody
    bool reader = false;
  };

  [[nodiscard]] Newcomer accept_newcomer() const noexcept;
  void on_listener();
  void on_peer(uint32_t events);
  bool take_input();

  // All below: with mutex_ held; the first two on the loop's thread only.
  void replace_peer(UniqueFd peer);
  void drop_peer();
  void flush() noexcept;
  void arm() noexcept;
  [[nodiscard]] bool writable() const { return peer_.valid() && !broken_; }

  EventLoop& loop_;
  ClientSlot client_;
  UniqueFd listener_;
  std::mutex mutex_;
  UniqueFd peer_;  ///< changed on the loop's thread only
  ByteRing ring_{kRingSize};
  OutputReaders readers_{loop_, mutex_, ring_};
  bool broken_ = false;       ///< the peer takes no more output
  bool input_ended_ = false;  ///< the peer sends nothing more
  bool input_wanted_ = true;
  bool output_wanted_ = false;
};

}  // namespace tsvmm
