#include "device/socket_backend.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

#include "core/error.h"
#include "core/reader_name.h"
#include "device/last_output.h"

namespace tsvmm {
namespace {

constexpr size_t kReadSize = 512;

}  // namespace

SocketBackend::SocketBackend(int listener, EventLoop& loop)
    : loop_(loop), listener_(UniqueFd::duplicate(listener)) {
  const int flags = check_errno(::fcntl(listener_.get(), F_GETFL), "examining a console socket");
  check_errno(::fcntl(listener_.get(), F_SETFL, flags | O_NONBLOCK), "preparing a console socket");
  // Edge-triggered: a connection that cannot be accepted for want of descriptors must not wake us
  // without end.
  loop_.add(listener_.get(), io::kReadable | io::kEdge, [this](IoEvents) { on_listener(); });
}

SocketBackend::~SocketBackend() {
  // On the loop's thread, which may be about to drop the peer.
  loop_.call([this] {
    loop_.remove(listener_.get());
    if (peer_.valid()) loop_.remove(peer_.get());
  });
  // A guest may be at its end before the loop has got round to who is waiting for its output.
  for (Newcomer one = accept_newcomer(); one.fd.valid(); one = accept_newcomer()) {
    if (one.reader) {
      readers_.show_last(std::move(one.fd));
      continue;
    }
    peer_ = std::move(one.fd);
    broken_ = false;
    ring_.rewind();
  }
  if (writable()) {
    flush_last_output(peer_.get(), ring_, [this] { flush(); });
  }
}

SocketBackend::Newcomer SocketBackend::accept_newcomer() const noexcept {
  sockaddr_un address{};
  socklen_t length;
  int fd = -1;
  do {
    length = sizeof address;
    fd = ::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length,
                   SOCK_CLOEXEC | SOCK_NONBLOCK);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  return {.fd = UniqueFd(fd), .reader = fd >= 0 && is_reader(address, length)};
}

void SocketBackend::on_listener() {
  for (Newcomer one = accept_newcomer(); one.fd.valid(); one = accept_newcomer()) {
    if (one.reader) {
      readers_.add(std::move(one.fd));
    } else {
      const std::lock_guard lock(mutex_);
      replace_peer(std::move(one.fd));
    }
  }
  client_.output_ready();
}

void SocketBackend::replace_peer(UniqueFd peer) {
  drop_peer();
  try {
    if (!loop_.add(peer.get(), io::kOnce, [this](IoEvents events) { on_peer(events); })) return;
  } catch (const std::exception&) {
    return;
  }
  peer_ = std::move(peer);
  broken_ = false;
  input_ended_ = false;
  input_wanted_ = true;
  ring_.rewind();
  flush();
  arm();
}

void SocketBackend::drop_peer() {
  if (!peer_.valid()) return;
  loop_.remove(peer_.get());
  peer_.reset();
}

void SocketBackend::on_peer(uint32_t events) {
  {
    const std::lock_guard lock(mutex_);
    input_wanted_ = false;
    output_wanted_ = false;
    if (writable()) flush();
  }
  const bool progress = take_input();
  const bool hung_up = (events & (io::kHangUp | io::kError)) != 0;
  {
    const std::lock_guard lock(mutex_);
    broken_ = broken_ || hung_up;
    // A peer that is gone may have left input that the guest has no room for yet.
    if (hung_up && input_ended_) drop_peer();
  }
  client_.output_ready();

  const std::lock_guard lock(mutex_);
  if (!hung_up || progress) arm();
}

/// True if there may be more to read.
bool SocketBackend::take_input() {
  std::array<uint8_t, kReadSize> buffer;
  const size_t room = std::min(client_.input_room(), buffer.size());
  if (room == 0) return false;
  const ssize_t count = ::recv(peer_.get(), buffer.data(), room, MSG_DONTWAIT);
  const bool again = count < 0 && (errno == EAGAIN || errno == EINTR);
  if (count > 0) client_.input({buffer.data(), static_cast<size_t>(count)});
  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  if (count <= 0 && !again) input_ended_ = true;
  return count > 0;
}

void SocketBackend::flush() noexcept {
  while (ring_.unread() > 0) {
    const auto piece = ring_.front();
    const ssize_t sent =
        ::send(peer_.get(), piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      ring_.consume(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      output_wanted_ = true;
      return;
    } else if (errno != EINTR) {
      // Only the loop may drop the peer; the shutdown raises a hang-up event there.
      broken_ = true;
      ::shutdown(peer_.get(), SHUT_RDWR);
      return;
    }
  }
}

void SocketBackend::arm() noexcept {
  if (!peer_.valid()) return;
  uint32_t events = io::kOnce;
  if (input_wanted_ && !input_ended_) events |= io::kReadable;
  if (output_wanted_ && !broken_) events |= io::kWritable;
  loop_.modify(peer_.get(), events);
}

void SocketBackend::attach(CharClient* client) {
  client_.attach(client);
  // Input that came before found no room.
  if (client != nullptr) input_wanted();
}

size_t SocketBackend::write(std::span<const uint8_t> bytes) noexcept {
  const std::lock_guard lock(mutex_);
  if (!writable()) {
    ring_.append(bytes);
    readers_.announce();
    return bytes.size();
  }
  // All output passes through the ring; only what the peer has read may be overwritten.
  const size_t taken = std::min(bytes.size(), ring_.room());
  const bool idle = ring_.unread() == 0;
  ring_.append(bytes.first(taken));
  readers_.announce();
  if (idle) flush();
  if (ring_.unread() > 0) {
    output_wanted_ = true;
    arm();
  }
  return taken;
}

void SocketBackend::input_wanted() noexcept {
  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  arm();
}

}  // namespace tsvmm
