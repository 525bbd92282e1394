#include "device/output_readers.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

namespace tsvmm {
namespace {

/// Sent at once.
constexpr size_t kPieceSize = 4096;

}  // namespace

OutputReaders::~OutputReaders() {
  // On the loop's thread no handler is in progress, nor is one once it has stopped; and what was
  // posted there before has run, or never will.
  loop_.call([this] {
    for (const auto& [fd, reader] : readers_) loop_.remove(fd);
  });
  for (auto& [fd, reader] : readers_) send_new(reader);
}

void OutputReaders::add(UniqueFd peer) {
  if (readers_.size() >= kMaxReaders) return;
  const int fd = peer.get();
  // Whoever sends something nevertheless is told so (EPIPE).
  ::shutdown(fd, SHUT_RD);
  try {
    // A loop that has stopped will show it no more.
    if (!loop_.add(fd, io::kOnce, [this, fd](IoEvents events) { on_event(fd, events); })) return;
    const std::lock_guard lock(mutex_);
    readers_[fd].fd = std::move(peer);
  } catch (const std::exception&) {
    // There is no memory for it: it is closed.
    loop_.remove(fd);
    return;
  }
  // What is appended from here on is announced.
  Reader& reader = readers_[fd];
  send_new(reader);
  watch(reader);
}

void OutputReaders::show_last(UniqueFd peer) const noexcept {
  Reader reader{.fd = std::move(peer)};
  ::shutdown(reader.fd.get(), SHUT_RD);
  send_new(reader);
}

void OutputReaders::announce() noexcept {
  if (announced_ || readers_.empty()) return;
  try {
    loop_.post([this] { send_announced(); });
    announced_ = true;
  } catch (const std::exception&) {
    // There is no memory for it: the next byte announces this one as well.
  }
}

void OutputReaders::send_announced() noexcept {
  {
    const std::lock_guard lock(mutex_);
    announced_ = false;
  }
  for (auto& [fd, reader] : readers_) {
    if (reader.waiting) continue;
    send_new(reader);
    if (reader.waiting) watch(reader);
  }
}

void OutputReaders::on_event(int fd, uint32_t events) {
  const auto found = readers_.find(fd);
  if (found == readers_.end()) return;
  if ((events & (io::kHangUp | io::kError)) != 0) {
    loop_.remove(fd);
    const std::lock_guard lock(mutex_);
    readers_.erase(found);
    return;
  }
  send_new(found->second);
  watch(found->second);
}

/// As far as the ring goes by now: a guest that writes as fast as one reads does not keep the loop.
void OutputReaders::send_new(Reader& reader) const noexcept {
  reader.waiting = false;
  uint64_t end;
  {
    const std::lock_guard lock(mutex_);
    end = ring_.end();
  }
  std::array<uint8_t, kPieceSize> piece;
  while (reader.position < end) {
    // The guest goes on writing while the host's kernel takes the bytes.
    const size_t size = copy_next(reader, piece);
    const ssize_t sent = ::send(reader.fd.get(), piece.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      reader.position += static_cast<uint64_t>(sent);
    } else if (errno != EINTR) {
      reader.waiting = true;
      // The shutdown raises a hang-up event in the loop.
      if (errno != EAGAIN) ::shutdown(reader.fd.get(), SHUT_RDWR);
      return;
    }
  }
}

/// From a reader's position on, or from the oldest byte if that is gone.
size_t OutputReaders::copy_next(Reader& reader, std::span<uint8_t> into) const noexcept {
  const std::lock_guard lock(mutex_);
  reader.position = std::max(reader.position, ring_.oldest());
  const auto piece = ring_.at(reader.position);
  const size_t size = std::min(piece.size(), into.size());
  std::copy_n(piece.begin(), size, into.begin());
  return size;
}

void OutputReaders::watch(const Reader& reader) noexcept {
  // A hang-up is told in any case.
  loop_.modify(reader.fd.get(), reader.waiting ? io::kOnce | io::kWritable : io::kOnce);
}

}  // namespace tsvmm
