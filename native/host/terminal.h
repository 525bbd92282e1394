#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/unique_fd.h"

namespace tsvmm {

struct Pty {
  UniqueFd master;
  std::string slave_path;
};

/// A new pseudo terminal in raw mode, master non-blocking. Throws Error.
Pty open_pty();

struct TerminalSize {
  uint16_t columns;
  uint16_t rows;
};
/// nullopt if `fd` is no terminal.
std::optional<TerminalSize> terminal_size(int fd);
/// Throws Error.
void set_terminal_size(int fd, TerminalSize size);

}  // namespace tsvmm
