#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "core/error.h"
#include "core/monotonic.h"
#include "virtio/vsock/handshake.h"
#include "virtio/vsock/host_sockets.h"
#include "virtio/vsock/stream_hub.h"

namespace tsvmm::vsock {
namespace {

/// Clients accepted at a turn.
constexpr int kClientsPerTurn = 64;

// What events carry in the place of a stream's id, which begins with a generation of at least 1.
constexpr uint64_t kListenerTag = 0;
constexpr uint64_t kTimerTag = 1;

void add_watch(Poller& poller, int fd, uint64_t tag) {
  // Edge-triggered: a client that cannot be accepted for want of descriptors, for one, must not
  // wake us without end.
  if (const int error = poller.add(fd, io::kReadable | io::kEdge, tag)) {
    throw Error::from_errno("watching a descriptor", error);
  }
}

}  // namespace

StreamHub::StreamHub(const Options& options, Counters& counters)
    : options_(options), counters_(counters) {
  add_watch(poller_, options_.listener, kListenerTag);
  add_watch(poller_, deadlines_.fd(), kTimerTag);
}

void StreamHub::poll() noexcept {
  std::array<Poller::Event, Poller::kMaxEvents> room;
  for (const Poller::Event& event : poller_.look(room)) {
    if (event.tag == kListenerTag) {
      accept_more_ = true;
    } else if (event.tag == kTimerTag) {
      timer_event();
    } else if (Stream* const stream = table_.by_id(event.tag)) {
      socket_event(*stream, event.events);
    }
  }
  if (accept_more_) accept_clients();
}

void StreamHub::timer_event() {
  deadlines_.fired();
  const uint64_t now = monotonic_ns();
  while (const auto id = deadlines_.pop_expired(now)) {
    if (Stream* const stream = table_.by_id(*id)) expired(*stream, now);
  }
}

void StreamHub::accept_clients() {
  accept_more_ = false;
  for (int i = 0; i < kClientsPerTurn; ++i) {
    // Each stream may become one more answer.
    if (congested()) {
      accept_starved_ = true;
      return;
    }
    UniqueFd client = accept_client(options_.listener);
    if (!client.valid()) {
      accept_starved_ = errno != EAGAIN;
      return;
    }
    if (table_.full()) continue;  // Closes it.
    Stream& stream = table_.add(Stream::State::kHandshake, std::move(client));
    counters_.streams.set(table_.size());
    if (!watch_new(stream)) {
      destroy(stream);
    } else {
      set_deadline(stream, monotonic_ns() + options_.timeout);
    }
  }
  accept_more_ = true;
}

bool StreamHub::watch_new(Stream& stream) noexcept {
  stream.watched = io::kReadable | io::kPeerClosed | io::kEdge;
  return poller_.add(stream.socket.get(), stream.watched, stream.id) == 0;
}

/// Tells of what is already there, too.
void StreamHub::watch(Stream& stream, IoEvents events) noexcept {
  stream.watched = events;
  poller_.modify(stream.socket.get(), events, stream.id);
}

void StreamHub::socket_event(Stream& stream, IoEvents events) {
  stream.hung_up = stream.hung_up || (events & (io::kHangUp | io::kError)) != 0;
  if (stream.state == Stream::State::kHandshake) {
    return handshake(stream, (events & io::kPeerClosed) != 0);
  }
  if (stream.state == Stream::State::kRequested && stream.hung_up) return end(stream);
  if ((events & io::kWritable) != 0) {
    if (stream.blocked) {
      stream.blocked = false;
      flush(stream);
    } else {
      watch(stream, stream.watched & ~io::kWritable);
    }
  }
  if ((events & ~io::kWritable) != 0) {
    // Told before, and the guest has no room: it is not worth waking up for more of that.
    if (stream.may_read && !stream.hung_up && (events & io::kReadable) != 0 && !stream.has_data()) {
      watch(stream, stream.watched & ~io::kReadable);
    }
    stream.may_read = true;
  }
  if (stream.hung_up && stream.read_ended) stream.write_ended = true;
  close_when_done(stream);
}

/// Looks whether a client's line is complete. What follows it is the guest's, so the line is looked
/// at before exactly its bytes are taken.
void StreamHub::handshake(Stream& stream, bool ended) {
  std::array<char, kMaxConnectLine> bytes{};
  const int fd = stream.socket.get();
  const ssize_t count = ::recv(fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (count < 0 && errno == EAGAIN && !ended) return;
  if (count <= 0) return destroy(stream);
  const std::string_view text(bytes.data(), static_cast<size_t>(count));
  const size_t end_of_line = text.find('\n');
  if (end_of_line == std::string_view::npos) {
    // Too long, or nothing more comes.
    if (text.size() == kMaxConnectLine || ended) destroy(stream);
    return;
  }
  const auto port = parse_connect(text.substr(0, end_of_line));
  const auto line = static_cast<ssize_t>(end_of_line + 1);
  if (!port || stream.hung_up || ::recv(fd, bytes.data(), end_of_line + 1, MSG_DONTWAIT) != line) {
    return destroy(stream);
  }
  table_.bind(stream, {table_.free_host_port(), *port});
  stream.state = Stream::State::kRequested;
  stream.pending_request = true;
  stream.may_read = true;
  set_deadline(stream, monotonic_ns() + options_.timeout);
  schedule(stream);
}

}  // namespace tsvmm::vsock
