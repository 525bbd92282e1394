#include "host/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "host/raw_terminals.h"

namespace tsvmm {
namespace {

void set_attributes(int fd, const termios& settings, const char* what) {
  check_errno(::tcsetattr(fd, TCSANOW, &settings), what);
}

void make_raw(int fd, termios settings) {
  ::cfmakeraw(&settings);
  set_attributes(fd, settings, "putting the terminal into raw mode");
}

}  // namespace

Pty open_pty() {
  UniqueFd master(check_errno(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK),
                              "opening a pseudo terminal"));
  check_errno(::unlockpt(master.get()), "unlocking a pseudo terminal");
  std::array<char, 64> path{};
  const int error = ::ptsname_r(master.get(), path.data(), path.size());
  if (error != 0) throw Error::from_errno("naming a pseudo terminal", error);
  // Raw, or the line discipline would echo the guest's output back to it as input.
  termios settings{};
  check_errno(::tcgetattr(master.get(), &settings), "asking a pseudo terminal for its mode");
  make_raw(master.get(), settings);
  return {std::move(master), path.data()};
}

std::optional<std::vector<uint8_t>> terminal_raw(int fd) {
  termios before{};
  if (::tcgetattr(fd, &before) != 0) return std::nullopt;
  // Before it is raw: a signal may come at any time.
  keep_settings(fd, before);
  try {
    make_raw(fd, before);
  } catch (...) {
    forget_settings(fd);
    throw;
  }
  std::vector<uint8_t> saved(sizeof before);
  std::memcpy(saved.data(), &before, sizeof before);
  return saved;
}

void terminal_restore(int fd, const std::vector<uint8_t>& saved) {
  termios settings{};
  if (saved.size() != sizeof settings) throw Error("EINVAL", "these are no terminal settings");
  std::memcpy(&settings, saved.data(), sizeof settings);
  const std::optional<Error> failure =
      attempt([&] { set_attributes(fd, settings, "restoring the terminal"); });
  forget_settings(fd);
  if (failure) throw Error(*failure);
}

std::optional<TerminalSize> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return std::nullopt;
  return TerminalSize{size.ws_col, size.ws_row};
}

void set_terminal_size(int fd, TerminalSize size) {
  const winsize wanted{.ws_row = size.rows, .ws_col = size.columns, .ws_xpixel = 0, .ws_ypixel = 0};
  check_errno(::ioctl(fd, TIOCSWINSZ, &wanted), "setting a terminal's size");
}

}  // namespace tsvmm
