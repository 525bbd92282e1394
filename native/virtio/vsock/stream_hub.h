#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>

#include "core/poller.h"
#include "virtio/vsock/counters.h"
#include "virtio/vsock/deadlines.h"
#include "virtio/vsock/protocol.h"
#include "virtio/vsock/stream_table.h"

namespace tsvmm::vsock {

/// The streams of a device: accepts the host's clients, connects the guest's to host sockets,
/// handles packets and socket events, and keeps what is pending for the guest.
///
/// Independent of the queues; belongs to one thread at a time.
class StreamHub {
 public:
  struct Options {
    uint64_t guest_cid = 0;
    int listener = -1;       ///< non-blocking, listening; the caller's
    std::string path;        ///< the guest's connection to port P goes to `path`_P
    bool any_owner = false;  ///< also if that is another user's
    uint64_t timeout = 0;    ///< ns for each step of connecting and closing
  };

  /// Throws Error.
  StreamHub(const Options& options, Counters& counters);

  // The host's side.

  /// Readable when poll() has something to do.
  [[nodiscard]] int fd() const noexcept { return poller_.fd(); }
  /// Takes in what sockets, clients and time have brought.
  void poll() noexcept;
  /// poll() is wanted although fd() is not readable: clients have been left for later.
  [[nodiscard]] bool wants_poll() const noexcept { return accept_more_; }
  /// After a turn: sees to it that the next deadline is not missed.
  void finish_turn() noexcept { deadlines_.arm(); }
  /// Time that did not count has passed (ns).
  void shift_deadlines(uint64_t by);

  // From the guest.

  /// The open stream that a packet's data is for, which then count against the guest's credit.
  /// nullptr if there is none or it is not allowed; the guest is told what it must be told.
  [[nodiscard]] Stream* data_target(const Header& header);
  /// Hands data to the host's end. Returns the bytes that are done with; the rest has to wait for
  /// an event, or be kept.
  [[nodiscard]] uint64_t deliver(Stream& stream, std::span<const iovec> pieces);
  /// Keeps what the host does not take; there is room for what data_target() allowed.
  void keep(Stream& stream, std::span<const iovec> pieces);
  /// Any packet without data.
  void control(const Header& header);
  /// Ends a stream; the guest is told by a reset.
  void end(Stream& stream);
  /// Ends all, without a word to the guest.
  void close_all() noexcept;
  /// nullptr if it is gone.
  [[nodiscard]] Stream* stream(uint64_t id) const noexcept { return table_.by_id(id); }
  /// So many answers wait that nothing more should be taken from the guest before it takes them.
  [[nodiscard]] bool congested() const noexcept;

  // To the guest. What waits is taken in the order: resets, then streams by turns.

  [[nodiscard]] bool has_reset() const noexcept { return !resets_.empty(); }
  [[nodiscard]] Header take_reset() noexcept;
  /// The next stream with something to say, taken out of the row; nullptr if there is none.
  [[nodiscard]] Stream* take_ready() noexcept;
  /// Puts a stream into the row if it has something to say.
  void schedule(Stream& stream) noexcept;
  [[nodiscard]] bool has_output() const noexcept { return has_reset() || !ready_.empty(); }
  [[nodiscard]] bool several_ready() const noexcept { return ready_.has_several(); }
  [[nodiscard]] Header take_control(Stream& stream) noexcept;
  [[nodiscard]] Header data_header(Stream& stream, uint32_t length) noexcept {
    return stream.header(options_.guest_cid, Operation::kData, length);
  }
  /// After a read of `count` bytes from its socket for the guest (as Stream::read returns them).
  void was_read(Stream& stream, int64_t count);

 private:
  // stream_hub.cc: streams and the guest.
  [[nodiscard]] bool addressed_properly(const Header& header);
  void connect_host(const Header& request);
  void try_connect(Stream& stream);
  void established(Stream& stream);
  void guest_shut(Stream& stream, uint32_t flags);
  void reject(const Header& header);
  void reset_guest(StreamKey key);
  void close_when_done(Stream& stream);
  void begin_closing(Stream& stream);
  void destroy(Stream& stream) noexcept;
  void retry_accepting() noexcept;
  void flush(Stream& stream);
  [[nodiscard]] uint64_t hand_over(Stream& stream, std::span<const iovec> pieces);
  void set_deadline(Stream& stream, uint64_t at);
  void expired(Stream& stream, uint64_t now);

  // stream_hub_host.cc: what comes from the host.
  void accept_clients();
  void handshake(Stream& stream, bool ended);
  void socket_event(Stream& stream, IoEvents events);
  [[nodiscard]] bool watch_new(Stream& stream) noexcept;
  void watch(Stream& stream, IoEvents events) noexcept;
  void timer_event();

  const Options options_;
  Counters& counters_;
  Poller poller_;
  Deadlines deadlines_;
  StreamTable table_;
  StreamQueue ready_;
  std::deque<Header> resets_;
  bool accept_more_ = false;     ///< clients were left for the next turn
  bool accept_starved_ = false;  ///< or because something ran out
};

}  // namespace tsvmm::vsock
