#include "device/pty_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "core/error.h"
#include "device/last_output.h"

namespace tsvmm {
namespace {

constexpr size_t kReadSize = 512;
constexpr size_t kPathSize = 64;

}  // namespace

// Whether the slave is open is known without polling: the master reports a hang-up while it is not,
// once by a one-shot event, and inotify reports each open. A
// master whose slave was never open reports no hang-up, hence the open and close here.
PtyBackend::PtyBackend(int master, EventLoop& loop)
    : loop_(loop), master_(UniqueFd::duplicate(master)) {
  const int flags = check_errno(::fcntl(master_.get(), F_GETFL), "examining a pseudo terminal");
  check_errno(::fcntl(master_.get(), F_SETFL, flags | O_NONBLOCK), "preparing a pseudo terminal");
  watch_slave();
  refresh_connection();
  loop_.add(master_.get(), io::kReadable | io::kOnce,
            [this](IoEvents events) { on_master(events); });
  if (opened_.valid()) {
    loop_.add(opened_.get(), io::kReadable, [this](IoEvents) { on_slave_opened(); });
  }
}

PtyBackend::~PtyBackend() {
  if (opened_.valid()) loop_.remove(opened_.get());
  loop_.remove(master_.get());
  // A guest may be at its end before the loop has heard of who opened the slave.
  refresh_connection();
  if (connected_) flush_last_output(master_.get(), ring_, [this] { flush(); });
}

void PtyBackend::watch_slave() {
  std::array<char, kPathSize> path{};
  const int error = ::ptsname_r(master_.get(), path.data(), path.size());
  if (error != 0) throw Error::from_errno("naming a pseudo terminal", error);
  UniqueFd(::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)).reset();
  opened_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!opened_.valid()) return;
  if (::inotify_add_watch(opened_.get(), path.data(), IN_OPEN) < 0) opened_.reset();
}

void PtyBackend::on_slave_opened() {
  alignas(inotify_event) std::array<uint8_t, 1024> events;
  while (::read(opened_.get(), events.data(), events.size()) > 0) {
  }
  look_at_size();
  const std::lock_guard lock(mutex_);
  refresh_connection();
  if (connected_) flush();
  // Even if the visitor has left again: it may have typed something.
  arm();
}

void PtyBackend::on_master(uint32_t events) {
  {
    const std::lock_guard lock(mutex_);
    input_wanted_ = false;
    output_wanted_ = false;
    // The event may be older than an open that came since.
    if ((events & io::kHangUp) != 0) refresh_connection();
    if (connected_) flush();
  }
  look_at_size();
  const bool progress = take_input();
  client_.output_ready();

  const std::lock_guard lock(mutex_);
  // Without anybody at the slave each new event would be the hang-up again, at once.
  if (connected_ || progress) arm();
}

/// Nothing tells a master when the slave's size changes: it is looked at when somebody opens the
/// slave, types or reads, before the guest answers to that.
void PtyBackend::look_at_size() {
  winsize size{};
  if (::ioctl(master_.get(), TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return;
  const uint32_t packed = uint32_t{size.ws_row} << 16 | size.ws_col;
  if (packed == size_) return;
  size_ = packed;
  client_.resized(size.ws_col, size.ws_row);
}

/// True if there may be more to read.
bool PtyBackend::take_input() {
  std::array<uint8_t, kReadSize> buffer;
  const size_t room = std::min(client_.input_room(), buffer.size());
  if (room == 0) return false;
  const ssize_t count = ::read(master_.get(), buffer.data(), room);
  if (count > 0) {
    const std::span bytes(buffer.data(), static_cast<size_t>(count));
    turn_lone_line_feed(bytes);
    client_.input(bytes);
  }
  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  return count > 0;
}

/// A line feed that came alone is a key that somebody pressed on a terminal that sends one for
/// Enter. In a longer text, even if read in pieces, it is part of the text.
void PtyBackend::turn_lone_line_feed(std::span<uint8_t> bytes) {
  int left = 0;
  ::ioctl(master_.get(), FIONREAD, &left);
  const bool alone = !input_continues_ && left <= 0 && bytes.size() == 1;
  input_continues_ = left > 0;
  if (alone && bytes[0] == '\n') bytes[0] = '\r';
}

void PtyBackend::refresh_connection() noexcept {
  pollfd state{.fd = master_.get(), .events = POLLOUT, .revents = 0};
  ::poll(&state, 1, 0);
  connected_ = (state.revents & POLLHUP) == 0;
}

void PtyBackend::flush() noexcept {
  while (ring_.unread() > 0) {
    const auto piece = ring_.front();
    const size_t written = write_master(piece);
    ring_.consume(written);
    if (written < piece.size()) {
      output_wanted_ = true;
      return;
    }
  }
}

size_t PtyBackend::write_master(std::span<const uint8_t> bytes) noexcept {
  const ssize_t written = ::write(master_.get(), bytes.data(), bytes.size());
  return written > 0 ? static_cast<size_t>(written) : 0;
}

void PtyBackend::arm() noexcept {
  uint32_t events = io::kOnce;
  if (input_wanted_) events |= io::kReadable;
  if (output_wanted_) events |= io::kWritable;
  loop_.modify(master_.get(), events);
}

void PtyBackend::attach(CharClient* client) {
  client_.attach(client);
  if (client == nullptr) return;
  // What came before found nobody.
  loop_.call([this] {
    size_ = 0;
    look_at_size();
  });
  input_wanted();
}

size_t PtyBackend::write(std::span<const uint8_t> bytes) noexcept {
  const std::lock_guard lock(mutex_);
  if (!connected_ && !opened_.valid()) {
    refresh_connection();
    if (connected_) flush();
  }
  size_t taken = 0;
  if (connected_ && ring_.unread() == 0) {
    taken = write_master(bytes);
    if (taken == bytes.size()) return taken;
    refresh_connection();
  }
  // What waits in the ring goes first. While somebody reads, nothing is lost: what the ring has no
  // room for is refused.
  const auto rest = bytes.subspan(taken);
  const size_t kept = connected_ ? std::min(rest.size(), ring_.room()) : rest.size();
  ring_.append(rest.first(kept));
  if (connected_) {
    output_wanted_ = true;
    arm();
  }
  return taken + kept;
}

void PtyBackend::input_wanted() noexcept {
  const std::lock_guard lock(mutex_);
  input_wanted_ = true;
  arm();
}

}  // namespace tsvmm
