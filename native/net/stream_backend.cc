#include "net/stream_backend.h"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr size_t kHeader = 12;  // struct virtio_net_hdr_v1
constexpr size_t kNumBuffersOffset = 10;
constexpr size_t kMaxFrame = NetQueue::kMaxFrameSize - kHeader;
constexpr size_t kMinFrame = 14;  // an Ethernet header
constexpr size_t kLength = sizeof(uint32_t);
/// Elements of one sendmsg(2): less than IOV_MAX, and enough for a full batch of short frames.
constexpr size_t kMaxPieces = 256;

uint32_t swapped(uint32_t value) {
  static_assert(std::endian::native == std::endian::little);
  return __builtin_bswap32(value);
}

/// Calls `visit` with each piece of `buffers` after its first `skip` bytes.
template <typename Visit>
void pieces_after(std::span<const iovec> buffers, size_t skip, Visit visit) {
  for (const iovec& buffer : buffers) {
    const size_t left_out = std::min(skip, buffer.iov_len);
    skip -= left_out;
    if (left_out == buffer.iov_len) continue;
    visit(std::span(static_cast<uint8_t*>(buffer.iov_base) + left_out, buffer.iov_len - left_out));
  }
}

size_t total_size(std::span<const iovec> buffers) {
  size_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

/// Copies to `buffers` from offset `at` on, as far as they reach.
void scatter(std::span<const iovec> buffers, size_t at, std::span<const uint8_t> bytes) {
  pieces_after(buffers, at, [&](std::span<uint8_t> piece) {
    const size_t count = std::min(piece.size(), bytes.size());
    if (count > 0) std::memcpy(piece.data(), bytes.data(), count);
    bytes = bytes.subspan(count);
  });
}

}  // namespace

/// Frames that go out in one system call.
struct StreamBackend::Batch {
  std::array<uint32_t, NetQueue::kMaxBatch> lengths;  ///< as sent
  std::array<iovec, kMaxPieces> pieces;
  size_t piece_count = 0;
  size_t frame_count = 0;
  size_t bytes = 0;

  [[nodiscard]] std::span<const iovec> used() const { return std::span(pieces).first(piece_count); }
};

/// The one queue pair, which is nothing but a view.
class StreamBackend::Queue : public NetQueue {
 public:
  explicit Queue(StreamBackend& backend) : backend_(backend) {}
  size_t send(std::span<NetFrame> frames) noexcept override { return backend_.send(frames); }
  State receive(std::span<NetFrame> frames, size_t& count) noexcept override {
    return backend_.receive(frames, count);
  }
  [[nodiscard]] int fd() const noexcept override { return backend_.socket_.get(); }

 private:
  StreamBackend& backend_;
};

std::span<uint8_t> StreamBackend::Bytes::room() noexcept {
  if (start_ > 0) std::memmove(storage_.get(), storage_.get() + start_, end_ - start_);
  end_ -= start_;
  start_ = 0;
  return std::span(storage_.get(), capacity_).subspan(end_);
}

StreamBackend::StreamBackend(UniqueFd socket)
    : socket_(std::move(socket)),
      unsent_(kLength + kMaxFrame),
      received_(2 * (kLength + kMaxFrame)) {
  int type = 0;
  socklen_t size = sizeof type;
  check_errno(::getsockopt(socket_.get(), SOL_SOCKET, SO_TYPE, &type, &size), "a network's socket");
  if (type != SOCK_STREAM) throw Error("EINVAL", "a network's socket is no stream socket");
}

std::unique_ptr<NetQueue> StreamBackend::make_queue(uint16_t /*index*/) {
  return std::make_unique<Queue>(*this);
}

size_t StreamBackend::send(std::span<NetFrame> frames) noexcept {
  size_t taken = 0;
  while (taken < frames.size() && flush_unsent()) {
    const auto rest = frames.subspan(taken);
    if (gone_) {
      for (NetFrame& frame : rest) frame.result = -EPIPE;
      return frames.size();
    }
    Batch batch;
    gather(rest, batch);
    const size_t now = transmit(rest, batch);
    taken += now;
    if (now < batch.frame_count && !gone_) break;
  }
  return taken;
}

/// Sends what is left of a frame. True if the next one may go.
bool StreamBackend::flush_unsent() noexcept {
  while (!unsent_.empty() && !gone_) {
    const auto pending = unsent_.pending();
    const ssize_t sent =
        ::send(socket_.get(), pending.data(), pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) unsent_.taken(static_cast<size_t>(sent));
    if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) return false;
    if (sent < 0 && errno != EINTR) gone_ = true;
  }
  return true;
}

/// As many frames as fit into one call, at least one. Those that cannot be sent are in the count,
/// with length 0 and without pieces.
void StreamBackend::gather(std::span<NetFrame> frames, Batch& batch) noexcept {
  for (NetFrame& frame : frames.first(std::min(frames.size(), batch.lengths.size()))) {
    const size_t size = total_size(frame.buffers);
    // A frame in more pieces than a call takes is nothing that a driver would make.
    const bool fits = frame.buffers.size() < kMaxPieces;
    if (size < kHeader + kMinFrame || size > NetQueue::kMaxFrameSize || !fits) {
      frame.result = -EMSGSIZE;
      batch.lengths[batch.frame_count++] = 0;
      continue;
    }
    if (batch.piece_count + frame.buffers.size() + 1 > kMaxPieces) return;
    uint32_t& length = batch.lengths[batch.frame_count];
    length = swapped(static_cast<uint32_t>(size - kHeader));
    batch.pieces[batch.piece_count++] = {&length, kLength};
    pieces_after(frame.buffers, kHeader, [&](std::span<uint8_t> piece) {
      batch.pieces[batch.piece_count++] = {piece.data(), piece.size()};
    });
    frame.result = static_cast<int32_t>(size);
    ++batch.frame_count;
    batch.bytes += kLength + size - kHeader;
  }
}

/// Returns how many of the batch's frames are done with.
size_t StreamBackend::transmit(std::span<NetFrame> frames, Batch& batch) noexcept {
  if (batch.bytes == 0) return batch.frame_count;
  msghdr message{};
  message.msg_iov = batch.pieces.data();
  message.msg_iovlen = batch.piece_count;
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
    gone_ = true;
    return 0;
  }
  auto left = static_cast<size_t>(std::max<ssize_t>(sent, 0));
  size_t done = 0;
  for (; done < batch.frame_count; ++done) {
    if (frames[done].result < 0) continue;
    const size_t size = kLength + static_cast<size_t>(frames[done].result) - kHeader;
    if (left < size) break;
    left -= size;
  }
  if (left == 0) return done;
  // The peer has been told of this frame: it goes whatever the guest does with its buffers.
  keep_rest(batch, static_cast<size_t>(sent));
  return done + 1;
}

/// Copies what is left of the frame that the first `skip` bytes of the batch end in.
void StreamBackend::keep_rest(const Batch& batch, size_t skip) noexcept {
  size_t frame_end = 0;
  for (size_t i = 0; frame_end <= skip; ++i) {
    if (batch.lengths[i] == 0) continue;
    frame_end += kLength + swapped(batch.lengths[i]);
  }
  size_t wanted = frame_end - skip;
  pieces_after(batch.used(), skip, [&](std::span<uint8_t> piece) {
    const size_t count = std::min(wanted, piece.size());
    if (count == 0) return;
    std::memcpy(unsent_.room().data(), piece.data(), count);
    unsent_.added(count);
    wanted -= count;
  });
}

NetQueue::State StreamBackend::receive(std::span<NetFrame> frames, size_t& count) noexcept {
  count = 0;
  deliver(frames, count);
  NetQueue::State state = NetQueue::State::kReady;
  if (count < frames.size() && !gone_) {
    state = fill();
    deliver(frames, count);
  }
  // What came before the end is delivered first.
  if (gone_) return count > 0 ? NetQueue::State::kReady : NetQueue::State::kGone;
  return count < frames.size() ? state : NetQueue::State::kReady;
}

/// Hands over the complete frames that have been read.
void StreamBackend::deliver(std::span<NetFrame> frames, size_t& count) noexcept {
  while (count < frames.size() && received_.pending().size() >= kLength) {
    uint32_t length = 0;
    std::memcpy(&length, received_.pending().data(), kLength);
    length = swapped(length);
    if (length > kMaxFrame) {
      // Where the next frame begins nobody knows any more.
      gone_ = true;
      received_.taken(received_.pending().size());
      return;
    }
    if (received_.pending().size() < kLength + length) return;
    const auto bytes = received_.pending().subspan(kLength, length);
    received_.taken(kLength + length);
    if (length < kMinFrame) continue;
    NetFrame& frame = frames[count++];
    constexpr std::array<uint8_t, kNumBuffersOffset> kNoOffloads{};
    scatter(frame.buffers, 0, kNoOffloads);
    scatter(frame.buffers, kHeader, bytes);
    frame.result =
        static_cast<int32_t>(std::min(kHeader + bytes.size(), total_size(frame.buffers)));
  }
}

/// Reads what the peer has sent, as far as there is room for it: kWait if that was all.
NetQueue::State StreamBackend::fill() noexcept {
  const auto room = received_.room();
  ssize_t got = -1;
  do {
    got = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return NetQueue::State::kWait;
  if (got <= 0) {
    gone_ = true;
    return NetQueue::State::kGone;
  }
  received_.added(static_cast<size_t>(got));
  return static_cast<size_t>(got) < room.size() ? NetQueue::State::kWait : NetQueue::State::kReady;
}

}  // namespace tsvmm
