#include "virtio/vsock/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "virtio/vsock/packet.h"

namespace tsvmm::vsock {

bool Stream::has_control() const noexcept {
  return pending_request || pending_response || pending_credit_update || pending_credit_request ||
         (host_shutdown() & ~told_shutdown) != 0;
}

Operation Stream::take_control() noexcept {
  if (pending_request) {
    pending_request = false;
    return Operation::kRequest;
  }
  if (pending_response) {
    pending_response = false;
    return Operation::kResponse;
  }
  if ((host_shutdown() & ~told_shutdown) != 0) {
    told_shutdown = host_shutdown();
    return Operation::kShutdown;
  }
  if (pending_credit_request) {
    pending_credit_request = false;
    return Operation::kCreditRequest;
  }
  pending_credit_update = false;
  return Operation::kCreditUpdate;
}

Header Stream::header(uint64_t guest_cid, Operation operation, uint32_t length) noexcept {
  return {.src_cid = kHostCid,
          .dst_cid = guest_cid,
          .src_port = key.host_port,
          .dst_port = key.guest_port,
          .len = length,
          .type = kTypeStream,
          .op = static_cast<uint16_t>(operation),
          .flags = operation == Operation::kShutdown ? told_shutdown : 0,
          .buf_alloc = own.allocation(),
          .fwd_cnt = own.tell()};
}

int64_t Stream::send(std::span<const iovec> pieces) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  ssize_t sent;
  do {
    sent = ::sendmsg(socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  // Want of memory passes, too.
  return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -1;
}

int64_t Stream::read(std::span<const iovec> pieces) noexcept {
  const uint64_t offered = total_length(pieces);
  ssize_t count;
  do {
    count = ::readv(socket.get(), pieces.data(), static_cast<int>(pieces.size()));
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno == EAGAIN ? -1 : 0;
  // A stream that fills what it is offered is offered more.
  const auto size = static_cast<uint64_t>(count);
  read_size = static_cast<uint32_t>(
      std::clamp<uint64_t>(2 * size, kMinRead, size == offered ? kMaxRead : read_size));
  return count;
}

void StreamQueue::push(Stream& stream) noexcept {
  if (stream.queued) return;
  stream.queued = true;
  stream.next_ready = nullptr;
  (last_ == nullptr ? first_ : last_->next_ready) = &stream;
  last_ = &stream;
}

Stream* StreamQueue::pop() noexcept {
  Stream* const stream = first_;
  if (stream == nullptr) return nullptr;
  first_ = stream->next_ready;
  if (first_ == nullptr) last_ = nullptr;
  stream->queued = false;
  return stream;
}

void StreamQueue::remove(Stream& stream) noexcept {
  if (!stream.queued) return;
  Stream* before = nullptr;
  for (Stream* at = first_; at != &stream; at = at->next_ready) before = at;
  (before == nullptr ? first_ : before->next_ready) = stream.next_ready;
  if (last_ == &stream) last_ = before;
  stream.queued = false;
}

}  // namespace tsvmm::vsock
