#pragma once

#include <functional>

#include "device/byte_ring.h"

namespace tsvmm {

/// Waits for a reader that is slow but reads: a guest's last lines often tell why it ended. Calls
/// `flush`, which writes what it can of `backlog`, each time `fd` is writable, for at most a second
/// in all.
void flush_last_output(int fd, const ByteRing& backlog, const std::function<void()>& flush);

}  // namespace tsvmm
