#include "device/tty_backend.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <utility>

#include "device/last_output.h"

namespace tsvmm {
namespace {

constexpr size_t kReadSize = 512;

}  // namespace

TtyBackend::TtyBackend(int input, int output, EventLoop& loop, HostOutput::Lost lost)
    : loop_(loop), output_(output, std::move(lost)) {
  if (input >= 0) input_ = UniqueFd::duplicate(input);
}

TtyBackend::~TtyBackend() {
  if (input_.valid()) loop_.remove(input_.get());
  if (direct_input_) loop_.remove(direct_input_->fd());
  loop_.remove(output_.fd());
  flush_last_output(output_.fd(), backlog_, [this] { flush_locked(); });
}

void TtyBackend::attach(CharClient* client) {
  client_.attach(client);
  if (client == nullptr || !input_.valid()) return;
  watch_input();
  input_wanted();
}

void TtyBackend::watch_input() {
  const std::lock_guard lock(mutex_);
  if (input_watched_) return;
  input_watched_ = true;
  if (loop_.add(input_.get(), io::kReadable | io::kOnce, [this](IoEvents) { on_input(); })) {
    input_mode_ = InputMode::kPolled;
    return;
  }
  direct_input_.emplace();
  const bool watched = loop_.add(direct_input_->fd(), io::kReadable, [this](IoEvents) {
    (void)direct_input_->consume();
    on_input();
  });
  if (!watched) return;
  input_mode_ = InputMode::kDirect;
  arm_input_locked();
}

void TtyBackend::on_input() {
  {
    // Cleared before the client is asked: if it says no, its later input_wanted() must not be lost.
    const std::lock_guard lock(mutex_);
    if (input_mode_ == InputMode::kNone) return;
    input_wanted_ = false;
  }
  std::array<uint8_t, kReadSize> buffer;
  const size_t room = std::min(client_.input_room(), buffer.size());
  if (room == 0) return;
  ssize_t count = -1;
  errno = EAGAIN;
  if (input_ready()) count = ::read(input_.get(), buffer.data(), room);
  const int error = count < 0 ? errno : 0;
  if (count > 0) client_.input({buffer.data(), static_cast<size_t>(count)});

  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  if (count == 0) {
    input_mode_ = InputMode::kNone;
  } else if (count > 0 || error == EAGAIN || error == EINTR) {
    if (input_mode_ == InputMode::kBackground) input_mode_ = InputMode::kPolled;
    arm_input_locked();
  } else {
    on_read_error(error);
  }
}

/// Our descriptor may block, and another process may have taken what woke us.
bool TtyBackend::input_ready() const {
  pollfd wait{.fd = input_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, 0) != 0;
}

void TtyBackend::on_read_error(int error) {
  // EIO while another job is in the foreground: its keys are not ours, and would wake us without
  // end. Edge-triggered, each key is one attempt, and the first after our job came to the
  // foreground succeeds.
  const bool background =
      error == EIO && ::isatty(input_.get()) == 1 && ::tcgetpgrp(input_.get()) != ::getpgrp();
  if (!background) {
    input_mode_ = InputMode::kNone;
  } else if (input_mode_ != InputMode::kBackground) {
    input_mode_ = InputMode::kBackground;
    loop_.modify(input_.get(), io::kReadable | io::kEdge);
  }
}

void TtyBackend::arm_input_locked() {
  if (!input_wanted_) return;
  if (input_mode_ == InputMode::kDirect) {
    direct_input_->signal();
  } else if (input_mode_ == InputMode::kPolled) {
    loop_.modify(input_.get(), io::kReadable | io::kOnce);
  }
}

void TtyBackend::input_wanted() noexcept {
  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  arm_input_locked();
}

size_t TtyBackend::write(std::span<const uint8_t> bytes) noexcept {
  const std::lock_guard lock(mutex_);
  flush_locked();
  const size_t written = backlog_.unread() == 0 ? output_.write(bytes) : 0;
  if (written == bytes.size()) return written;
  // Nobody would ever send the backlog: losing bytes is better than a guest that waits for ever.
  if (!arm_output_locked()) return bytes.size();
  const auto rest = bytes.subspan(written);
  const size_t kept = std::min(rest.size(), backlog_.room());
  backlog_.append(rest.first(kept));
  return written + kept;
}

void TtyBackend::flush_locked() noexcept {
  while (backlog_.unread() > 0) {
    const auto piece = backlog_.front();
    const size_t written = output_.write(piece);
    backlog_.consume(written);
    if (written < piece.size()) return;
  }
}

void TtyBackend::on_writable() {
  {
    const std::lock_guard lock(mutex_);
    flush_locked();
    if (backlog_.unread() > 0) (void)arm_output_locked();
    if (backlog_.room() == 0) return;
  }
  client_.output_ready();
}

/// The loop is only told of the output when a reader is slow: most never are, and then need no
/// thread.
bool TtyBackend::arm_output_locked() noexcept {
  if (output_watched_) {
    loop_.modify(output_.fd(), io::kWritable | io::kOnce);
    return true;
  }
  try {
    output_watched_ =
        loop_.add(output_.fd(), io::kWritable | io::kOnce, [this](IoEvents) { on_writable(); });
  } catch (const std::exception&) {
    return false;  // out of memory or threads
  }
  return output_watched_;
}

}  // namespace tsvmm
