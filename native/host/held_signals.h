#pragma once

namespace tsvmm {

// A guest is started before the program has handlers for signals: one that came in between would
// end the process without them.

/// SIGHUP, SIGINT and SIGTERM wait from now on, if they come to a process of which the calling
/// thread is the only one that takes any.
void hold_signals() noexcept;
/// They come now, those that wait among them.
void release_signals() noexcept;

}  // namespace tsvmm
