#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

struct Pty {
  UniqueFd master;
  std::string slave_path;
};

/// A new pseudo terminal in raw mode, master non-blocking. Throws Error.
Pty open_pty();

/// Puts a terminal into raw mode (termios(3), cfmakeraw) and returns what terminal_restore takes;
/// nullopt if `fd` is none. A signal that ends the process in between restores it as well. Throws
/// Error.
std::optional<std::vector<uint8_t>> terminal_raw(int fd);
/// Throws Error, also if `saved` is not what terminal_raw returned.
void terminal_restore(int fd, const std::vector<uint8_t>& saved);

struct TerminalSize {
  uint16_t columns;
  uint16_t rows;
};
/// nullopt if `fd` is no terminal.
std::optional<TerminalSize> terminal_size(int fd);
/// Throws Error.
void set_terminal_size(int fd, TerminalSize size);

}  // namespace tsvmm
