#include "virtio/vsock/guest_link.h"

#include <cstring>

#include "core/monotonic.h"
#include "virtio/chain_bytes.h"
#include "virtio/vsock/packet.h"

namespace tsvmm::vsock {
namespace {

/// Turns at the queues before the loop gets its own (to be paused, for one).
constexpr int kRoundsPerWake = 16;

}  // namespace

GuestLink::GuestLink(const StreamHub::Options& options, Counters& counters,
                     const Activation& activation, VirtioTransport& transport, EventLoop& loop)
    : transport_(transport), loop_(loop), hub_(options, counters) {
  if (const auto* setup = activation.queue(kReceiveQueue)) {
    receiver_.emplace(activation, *setup, hub_, counters);
  }
  if (const auto* setup = activation.queue(kTransmitQueue)) {
    transmitter_.emplace(activation, *setup, hub_);
  }
  if (const auto* setup = activation.queue(kEventQueue)) events_.emplace(activation, *setup);
  try {
    // By edges: a doorbell's count need not be read then.
    constexpr IoEvents kEdges = io::kReadable | io::kEdge;
    watch(again_.fd(), kEdges, &GuestLink::sockets_ready);
    watch(hub_.fd(), io::kReadable, &GuestLink::sockets_ready);
    if (receiver_) watch(receiver_->doorbell().fd(), kEdges, &GuestLink::serve);
    if (transmitter_) {
      watch(transmitter_->doorbell().fd(), kEdges, &GuestLink::serve);
      watch(transmitter_->hold_timer().fd(), kEdges, &GuestLink::hold_is_over);
    }
    if (events_) watch(events_->doorbell.fd(), kEdges, &GuestLink::event_queue_rung);
  } catch (...) {
    for (const int fd : watched_) loop_.remove(fd);
    throw;
  }
  // A look of our own to begin with: the driver may have made buffers available without ringing.
  again_.signal();
}

GuestLink::~GuestLink() {
  for (const int fd : watched_) loop_.remove(fd);
}

void GuestLink::watch(int fd, IoEvents events, void (GuestLink::*handler)()) {
  loop_.add(fd, events, [this, handler](IoEvents /*events*/) {
    if (!failed_) (this->*handler)();
  });
  watched_.push_back(fd);
}

void GuestLink::sockets_ready() {
  hub_.poll();
  serve();
}

void GuestLink::hold_is_over() {
  transmitter_->stop_holding();
  serve();
}

void GuestLink::serve() {
  const bool done = take_turns();
  if (failed_) return;
  hub_.finish_turn();
  // There is more to do: come back after the loop's other handlers.
  if (!done || hub_.wants_poll()) again_.signal();
}

/// True if nothing is left to do for now.
bool GuestLink::take_turns() {
  for (int round = 0; round < kRoundsPerWake; ++round) {
    const Turn sent = transmitter_ ? transmitter_->turn() : Turn::kIdle;
    const Turn received = receiver_ ? receiver_->turn() : Turn::kIdle;
    if (sent == Turn::kBroken || received == Turn::kBroken) {
      fail(sent == Turn::kBroken ? transmitter_->error() : receiver_->error());
      return true;
    }
    // Answers that nobody took have been taken.
    const bool unblocked = sent == Turn::kWaiting && !transmitter_->holding() && !hub_.congested();
    if (sent != Turn::kMore && received != Turn::kMore && !unblocked) return true;
  }
  return false;
}

void GuestLink::event_queue_rung() {
  if (event_pending_) send_event();
}

void GuestLink::send_event() {
  if (!events_) return;
  DescriptorChain chain;
  for (;;) {
    const SplitQueue::Pop popped = events_->queue.pop(chain);
    if (popped == SplitQueue::Pop::kChain) break;
    if (popped == SplitQueue::Pop::kBroken) return fail(events_->queue.error());
    if (!events_->queue.enable_notifications()) return;
  }
  if (tsvmm::total_length(chain.writable) < kEventSize) {
    return fail("an event buffer has no room for an event");
  }
  std::vector<iovec> pieces;
  (void)append_pieces(chain.writable, 0, kEventSize, pieces);
  // struct virtio_vsock_event: the event's number, and that of a transport reset is 0.
  static_assert(kEventTransportReset == 0);
  for (const iovec& piece : pieces) std::memset(piece.iov_base, 0, piece.iov_len);
  events_->queue.push_used(chain.head, kEventSize);
  events_->publish();
  event_pending_ = false;
}

void GuestLink::reset_transport() {
  loop_.call([this] {
    if (failed_) return;
    hub_.close_all();
    event_pending_ = true;
    send_event();
  });
}

void GuestLink::begin_pause() {
  // What is taken from the queue has to be done with: nothing of it is left in our hands.
  if (transmitter_) transmitter_->stop_holding();
  paused_at_ = monotonic_ns();
}

void GuestLink::end_pause() { hub_.shift_deadlines(monotonic_ns() - paused_at_); }

void GuestLink::fail(const char* reason) noexcept {
  failed_ = true;
  hub_.close_all();
  for (const int fd : watched_) loop_.modify(fd, 0);
  transport_.failed(reason);
}

}  // namespace tsvmm::vsock
