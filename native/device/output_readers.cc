#include "device/output_readers.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <exception>

namespace tsvmm {

OutputReaders::~OutputReaders() {
  // On the loop's thread no handler is in progress, nor is one once it has stopped.
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
  Reader reader{.fd = std::move(peer), .position = ring_.oldest()};
  send_new(reader);
  try {
    // A loop that has stopped will show it no more.
    if (!loop_.add(fd, EPOLLONESHOT, [this, fd](uint32_t events) { on_event(fd, events); })) return;
    watch(readers_[fd] = std::move(reader));
  } catch (const std::exception&) {
    // There is no memory for it: it is closed.
    loop_.remove(fd);
  }
}

void OutputReaders::flush() noexcept {
  for (auto& [fd, reader] : readers_) {
    if (reader.waiting) continue;
    send_new(reader);
    if (reader.waiting) watch(reader);
  }
}

void OutputReaders::on_event(int fd, uint32_t events) {
  const std::lock_guard lock(mutex_);
  const auto found = readers_.find(fd);
  if (found == readers_.end()) return;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    loop_.remove(fd);
    readers_.erase(found);
    return;
  }
  send_new(found->second);
  watch(found->second);
}

void OutputReaders::send_new(Reader& reader) const noexcept {
  reader.waiting = false;
  reader.position = std::max(reader.position, ring_.oldest());
  for (auto piece = ring_.at(reader.position); !piece.empty(); piece = ring_.at(reader.position)) {
    const ssize_t sent =
        ::send(reader.fd.get(), piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      reader.position += static_cast<uint64_t>(sent);
    } else if (errno != EINTR) {
      reader.waiting = true;
      // The shutdown makes the loop hear of a hang-up.
      if (errno != EAGAIN) ::shutdown(reader.fd.get(), SHUT_RDWR);
      return;
    }
  }
}

void OutputReaders::watch(const Reader& reader) noexcept {
  // A hang-up is told in any case.
  loop_.modify(reader.fd.get(), reader.waiting ? EPOLLONESHOT | EPOLLOUT : EPOLLONESHOT);
}

}  // namespace tsvmm
