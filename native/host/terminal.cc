#include "host/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "core/error.h"

namespace tsvmm {

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
  ::cfmakeraw(&settings);
  check_errno(::tcsetattr(master.get(), TCSANOW, &settings),
              "putting a pseudo terminal into raw mode");
  return {std::move(master), path.data()};
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
