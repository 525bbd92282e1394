#pragma once

#include <memory>

#include "net/net_backend.h"

namespace tsvmm {

/// A queue of a tap, many frames a system call by io_uring where the host lets us. `fd` is the
/// caller's and non-blocking. Throws nothing.
std::unique_ptr<NetQueue> make_tap_queue(int fd);
/// The same by a system call for each frame.
std::unique_ptr<NetQueue> make_sync_tap_queue(int fd);

}  // namespace tsvmm
