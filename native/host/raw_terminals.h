#pragma once

#include <termios.h>

namespace tsvmm {

/// From now on, a signal that ends this process puts the terminal back to these settings first, so
/// that the shell there can be used. Signals that are ignored, or have a handler already, are left
/// to whoever wants them. Of a terminal that is kept already the first settings stay.
void keep_settings(int fd, const termios& settings);
/// The terminal is left as it is then.
void forget_settings(int fd) noexcept;

}  // namespace tsvmm
