#pragma once

#include <atomic>
#include <mutex>

namespace tsvmm {

/// Held by who looks at a signal's action and then changes it: the actions are the process's, and
/// one that was installed in between would be lost.
inline std::mutex signal_actions;

/// Called, unless it is nullptr, by a handler of ours before the signal ends the process. It is
/// safe in a handler (signal-safety(7)).
inline std::atomic<void (*)() noexcept> before_ending_signal = nullptr;
static_assert(decltype(before_ending_signal)::is_always_lock_free);

}  // namespace tsvmm
