#include "virtio/vsock/stream_hub.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "core/monotonic.h"
#include "virtio/vsock/host_sockets.h"
#include "virtio/vsock/packet.h"

namespace tsvmm::vsock {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kConnectRetry = 2 * kNsPerMs;
/// How long data waits for the guest to say that it has room again before it is asked.
constexpr uint64_t kCreditTimeout = 20 * kNsPerMs;
/// Resets that wait for the guest, beyond which nothing more is taken from the guest and no client
/// is accepted until it takes them (virtio 1.2 §5.10.6.2: additional resources, which have an end).
/// Streams that are there by then can add one each.
constexpr size_t kMaxResets = 1024;

}  // namespace

bool StreamHub::congested() const noexcept { return resets_.size() >= kMaxResets; }

// From the guest.

/// Packets that are no stream's of this device. What cannot be answered is dropped (§5.10.6.4).
bool StreamHub::addressed_properly(const Header& header) {
  if (header.src_cid != options_.guest_cid) return false;
  if (header.dst_cid == kHostCid && header.type == kTypeStream) return true;
  reject(header);
  return false;
}

/// No such stream: the sender is told so (§5.10.6.4.1), unless it said that itself.
void StreamHub::reject(const Header& header) {
  if (header.op == static_cast<uint16_t>(Operation::kReset)) return;
  resets_.push_back({.src_cid = header.dst_cid,
                     .dst_cid = options_.guest_cid,
                     .src_port = header.dst_port,
                     .dst_port = header.src_port,
                     .len = 0,
                     .type = header.type,
                     .op = static_cast<uint16_t>(Operation::kReset),
                     .flags = 0,
                     .buf_alloc = 0,
                     .fwd_cnt = 0});
}

void StreamHub::reset_guest(StreamKey key) {
  Header from_guest{};
  from_guest.dst_cid = kHostCid;
  from_guest.dst_port = key.host_port;
  from_guest.src_port = key.guest_port;
  from_guest.type = kTypeStream;
  reject(from_guest);
}

Stream* StreamHub::data_target(const Header& header) {
  counters_.tx_packets.add(1);
  if (!addressed_properly(header)) return nullptr;
  Stream* const stream = table_.by_key({header.dst_port, header.src_port});
  if (stream == nullptr) {
    reject(header);
    return nullptr;
  }
  stream->peer.update(header.buf_alloc, header.fwd_cnt);
  const bool may_send = stream->state >= Stream::State::kOpen &&
                        (stream->guest_shutdown & kWillNotSend) == 0 &&
                        stream->own.receive(header.len);
  if (!may_send) {
    end(*stream);
    return nullptr;
  }
  schedule(*stream);
  return stream;
}

uint64_t StreamHub::deliver(Stream& stream, std::span<const iovec> pieces) {
  if (!stream.backlog.empty()) {
    stream.backlog.append(pieces);
    return total_length(pieces);
  }
  if (stream.blocked) return 0;
  const uint64_t sent = hand_over(stream, pieces);
  if (stream.write_ended) close_when_done(stream);
  return sent;
}

void StreamHub::keep(Stream& stream, std::span<const iovec> pieces) {
  stream.backlog.append(pieces);
}

void StreamHub::flush(Stream& stream) {
  while (!stream.backlog.empty() && !stream.blocked) {
    const uint64_t sent = hand_over(stream, stream.backlog.front());
    stream.backlog.consume(static_cast<uint32_t>(sent));
  }
}

/// Sends as much as the host takes. Returns the bytes that are done with.
uint64_t StreamHub::hand_over(Stream& stream, std::span<const iovec> pieces) {
  const uint64_t offered = total_length(pieces);
  const int64_t result = stream.write_ended ? -1 : stream.send(pieces);
  // It reaches no program. The guest is told in turn; until then it does not matter.
  if (result < 0) stream.write_ended = true;
  const uint64_t sent = result < 0 ? offered : static_cast<uint64_t>(result);
  if (sent < offered) {
    stream.blocked = true;
    watch(stream, stream.watched | io::kWritable);
  }
  stream.own.forward(static_cast<uint32_t>(sent));
  counters_.tx_bytes.add(sent);
  schedule(stream);
  return sent;
}

void StreamHub::control(const Header& header) {
  counters_.tx_packets.add(1);
  const auto operation = static_cast<Operation>(header.op);
  if (operation == Operation::kReset) counters_.resets_received.add(1);
  if (!addressed_properly(header)) return;
  Stream* const stream = table_.by_key({header.dst_port, header.src_port});
  if (stream == nullptr) {
    return operation == Operation::kRequest ? connect_host(header) : reject(header);
  }
  stream->peer.update(header.buf_alloc, header.fwd_cnt);
  switch (operation) {
    case Operation::kReset:
      return destroy(*stream);
    case Operation::kResponse:
      return stream->state == Stream::State::kRequested ? established(*stream) : end(*stream);
    case Operation::kShutdown:
      return guest_shut(*stream, header.flags & kShutdownBoth);
    case Operation::kCreditRequest:
      stream->pending_credit_update = true;
      break;
    case Operation::kCreditUpdate:
      break;
    default:  // A second request for the same ports, or nothing that we know.
      return end(*stream);
  }
  schedule(*stream);
}

void StreamHub::connect_host(const Header& request) {
  if (table_.full()) return reject(request);
  Stream& stream = table_.add(Stream::State::kConnecting, UniqueFd());
  table_.bind(stream, {request.dst_port, request.src_port});
  counters_.streams.set(table_.size());
  stream.peer.update(request.buf_alloc, request.fwd_cnt);
  stream.connect_until = monotonic_ns() + options_.timeout;
  try_connect(stream);
}

void StreamHub::try_connect(Stream& stream) {
  const std::string path = options_.path + "_" + std::to_string(stream.key.host_port);
  const Connect result = connect_to(path, options_.any_owner, stream.socket);
  if (result == Connect::kDone && watch_new(stream)) {
    stream.state = Stream::State::kOpen;
    stream.pending_response = true;
    counters_.streams_opened.add(1);
    return schedule(stream);
  }
  const uint64_t now = monotonic_ns();
  if (result != Connect::kBusy || now >= stream.connect_until) return end(stream);
  set_deadline(stream, now + kConnectRetry);
}

/// The guest has accepted a host client's connection.
void StreamHub::established(Stream& stream) {
  set_deadline(stream, 0);
  stream.state = Stream::State::kOpen;
  stream.may_read = true;
  counters_.streams_opened.add(1);
  std::array<char, 32> line{};
  const int length = std::snprintf(line.data(), line.size(), "OK %u\n", stream.key.host_port);
  const iovec piece{line.data(), static_cast<size_t>(length)};
  if (stream.send({&piece, 1}) != length) return end(stream);
  schedule(stream);
}

void StreamHub::guest_shut(Stream& stream, uint32_t flags) {
  if (stream.state < Stream::State::kOpen) return end(stream);
  stream.guest_shutdown |= flags;
  if ((flags & kWillNotReceive) != 0) ::shutdown(stream.socket.get(), SHUT_RD);
  close_when_done(stream);
}

/// Passes the ends of both directions on, as far as it is their time.
void StreamHub::close_when_done(Stream& stream) {
  const bool guest_is_done = (stream.guest_shutdown & kWillNotSend) != 0 && stream.backlog.empty();
  if (guest_is_done && !stream.write_shut) {
    stream.write_shut = true;
    ::shutdown(stream.socket.get(), SHUT_WR);
  }
  if (stream.guest_shutdown == kShutdownBoth) {
    // The guest takes a reset as the confirmation (§5.10.6.5).
    if (stream.backlog.empty()) return end(stream);
    return begin_closing(stream);
  }
  // All that the host sent has been passed on, and it takes no more: the guest has to confirm.
  if (stream.host_shutdown() == kShutdownBoth) begin_closing(stream);
  schedule(stream);
}

void StreamHub::begin_closing(Stream& stream) {
  if (stream.state == Stream::State::kClosing) return;
  stream.state = Stream::State::kClosing;
  stream.forwarded_mark = stream.own.forwarded();
  set_deadline(stream, monotonic_ns() + options_.timeout);
}

void StreamHub::end(Stream& stream) {
  // The guest has not heard of a stream whose request still waits for a buffer.
  if (!stream.pending_request) reset_guest(stream.key);
  destroy(stream);
}

void StreamHub::destroy(Stream& stream) noexcept {
  set_deadline(stream, 0);
  ready_.remove(stream);
  table_.remove(stream);
  counters_.streams.set(table_.size());
  retry_accepting();
}

/// Clients that were left for want of something are looked at once more.
void StreamHub::retry_accepting() noexcept {
  if (!accept_starved_ || congested()) return;
  accept_starved_ = false;
  accept_more_ = true;
}

void StreamHub::close_all() noexcept {
  resets_.clear();
  retry_accepting();
  table_.for_each([this](Stream& stream) { destroy(stream); });
}

void StreamHub::set_deadline(Stream& stream, uint64_t at) {
  deadlines_.move(stream.id, stream.deadline, at);
  stream.deadline = at;
}

void StreamHub::shift_deadlines(uint64_t by) {
  deadlines_.shift(by);
  table_.for_each([by](Stream& stream) {
    if (stream.deadline != 0) stream.deadline += by;
    stream.connect_until += by;
  });
  deadlines_.arm();
}

void StreamHub::expired(Stream& stream, uint64_t now) {
  stream.deadline = 0;
  switch (stream.state) {
    case Stream::State::kHandshake:
      return destroy(stream);
    case Stream::State::kRequested:
      return end(stream);
    case Stream::State::kConnecting:
      return try_connect(stream);
    case Stream::State::kOpen:
      stream.pending_credit_request = stream.lacks_credit();
      return schedule(stream);
    case Stream::State::kClosing:
      // A host that goes on reading may finish.
      if (stream.own.forwarded() == stream.forwarded_mark) return end(stream);
      stream.forwarded_mark = stream.own.forwarded();
      return set_deadline(stream, now + options_.timeout);
  }
}

// To the guest.

Header StreamHub::take_reset() noexcept {
  const Header header = resets_.front();
  resets_.pop_front();
  retry_accepting();
  counters_.resets_sent.add(1);
  counters_.rx_packets.add(1);
  return header;
}

Stream* StreamHub::take_ready() noexcept {
  while (Stream* const stream = ready_.pop()) {
    if (stream->has_output()) return stream;
  }
  return nullptr;
}

void StreamHub::schedule(Stream& stream) noexcept {
  if (stream.has_output()) return ready_.push(stream);
  // Once for each time that it runs out: a guest program that does not read has nothing to say.
  if (stream.deadline == 0 && stream.lacks_credit() && !stream.asked_for_credit) {
    stream.asked_for_credit = true;
    set_deadline(stream, monotonic_ns() + kCreditTimeout);
  }
}

Header StreamHub::take_control(Stream& stream) noexcept {
  counters_.rx_packets.add(1);
  const Operation operation = stream.take_control();
  return stream.header(options_.guest_cid, operation, 0);
}

void StreamHub::was_read(Stream& stream, int64_t count) {
  if (count > 0) {
    stream.peer.sent(static_cast<uint32_t>(count));
    stream.asked_for_credit = false;
    counters_.rx_bytes.add(static_cast<uint64_t>(count));
    return schedule(stream);
  }
  if (count < 0) {
    stream.may_read = false;
    if ((stream.watched & io::kReadable) == 0) watch(stream, stream.watched | io::kReadable);
    return;
  }
  stream.read_ended = true;
  if (stream.hung_up) stream.write_ended = true;
  close_when_done(stream);
}

}  // namespace tsvmm::vsock
