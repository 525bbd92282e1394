#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "core/poller.h"
#include "core/unique_fd.h"
#include "virtio/vsock/backlog.h"
#include "virtio/vsock/credit.h"
#include "virtio/vsock/protocol.h"

namespace tsvmm::vsock {

/// Identifies a stream of one guest.
struct StreamKey {
  uint32_t host_port = 0;
  uint32_t guest_port = 0;
};

/// One connection between a socket of the guest and a UNIX socket of the host.
///
/// It has the state of its two ends, and what is pending for each; StreamHub creates and ends it.
struct Stream {
  enum class State {
    kHandshake,   ///< a host's client that has not sent the port yet; has no key
    kRequested,   ///< the guest is asked to accept
    kConnecting,  ///< the guest waits for a host's listener that is too busy to accept
    kOpen,
    kClosing,  ///< both sides have said all; the host has to take the rest, or the guest to confirm
  };

  /// Bounds of read_size.
  static constexpr uint32_t kMinRead = 16 * 1024;
  static constexpr uint32_t kMaxRead = 256 * 1024;

  Stream(uint64_t stream_id, State initial_state, UniqueFd end, uint32_t allocation)
      : id(stream_id),
        state(initial_state),
        socket(std::move(end)),
        own(allocation),
        backlog(allocation) {}

  const uint64_t id;
  State state;
  StreamKey key;
  UniqueFd socket;
  PeerCredit peer;
  OwnCredit own;
  Backlog backlog;

  // The host's end.
  IoEvents watched = 0;           ///< of its socket
  bool may_read = false;          ///< there may be data, or an end
  bool hung_up = false;           ///< closed over there; what it had sent may still be here
  bool read_ended = false;        ///< all it had to say has been read
  bool write_ended = false;       ///< it takes nothing any more
  bool write_shut = false;        ///< it has been told that nothing more comes
  bool blocked = false;           ///< it takes nothing for now; an event will tell
  uint32_t read_size = kMinRead;  ///< bytes to ask for next time

  // The guest's end.
  uint32_t guest_shutdown = 0;  ///< what it said it will not do any more
  uint32_t told_shutdown = 0;   ///< what it has been told that the host will not do
  bool pending_request = false;
  bool pending_response = false;
  bool pending_credit_update = false;
  bool pending_credit_request = false;
  bool asked_for_credit = false;  ///< or will be, at the deadline

  uint64_t deadline = 0;         ///< monotonic ns, 0 for none
  uint64_t connect_until = 0;    ///< when kConnecting gives up
  uint32_t forwarded_mark = 0;   ///< what the host had taken when the deadline was set
  Stream* next_ready = nullptr;  ///< StreamQueue's
  bool queued = false;           ///< StreamQueue's

  /// What the host will not do any more, in the guest's terms.
  [[nodiscard]] uint32_t host_shutdown() const noexcept {
    return (read_ended ? kWillNotSend : 0U) | (write_ended ? kWillNotReceive : 0U);
  }
  [[nodiscard]] bool guest_receives() const noexcept {
    return (guest_shutdown & kWillNotReceive) == 0;
  }
  /// The host's data may be moved to the guest.
  [[nodiscard]] bool has_data() const noexcept {
    return state == State::kOpen && may_read && !read_ended && guest_receives() &&
           peer.available() != 0;
  }
  /// Data is there, but the guest has no room for it.
  [[nodiscard]] bool lacks_credit() const noexcept {
    return state == State::kOpen && may_read && !read_ended && guest_receives() &&
           peer.available() == 0;
  }
  /// A packet without payload should go before any data.
  [[nodiscard]] bool has_control() const noexcept;
  [[nodiscard]] bool has_output() const noexcept {
    return has_control() || has_data() || own.update_due();
  }

  /// The next packet without payload that the guest has to get, or at least a credit update.
  [[nodiscard]] Operation take_control() noexcept;
  /// A header to the guest, with this side's credit in it.
  [[nodiscard]] Header header(uint64_t guest_cid, Operation operation, uint32_t length) noexcept;

  /// Sends to the host's end; bytes taken, 0 if none for now, -1 if never again.
  [[nodiscard]] int64_t send(std::span<const iovec> pieces) noexcept;
  /// Reads from it; bytes, 0 at the end, -1 if there is nothing for now.
  [[nodiscard]] int64_t read(std::span<const iovec> pieces) noexcept;
};

/// Streams that have something for the guest, in the order of their turns.
class StreamQueue {
 public:
  /// Appends it unless it is in already.
  void push(Stream& stream) noexcept;
  /// Takes the first one; nullptr if there is none.
  Stream* pop() noexcept;
  void remove(Stream& stream) noexcept;
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] bool has_several() const noexcept { return first_ != last_; }

 private:
  Stream* first_ = nullptr;
  Stream* last_ = nullptr;
};

}  // namespace tsvmm::vsock
