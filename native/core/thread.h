#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace tsvmm {

/// The one place where the core makes threads: named (15 characters are kept), every signal blocked
/// except the vCPU kick, so that signals stay with the runtime. A thread made by another one of
/// these may use the host CPUs that its creator began with, whatever that was pinned to since.
/// `body` must not throw. Throws Error if no thread can be made.
std::thread spawn_thread(const std::string& name, std::function<void()> body);

/// For a thread that sleeps until it is waited for, and does little then: it runs as soon as
/// it is woken, ahead of those that the host's scheduler would let finish their turn, and its own
/// turns are short where others want the CPU. Its share of the CPU stays what it is. Nothing
/// happens on hosts that have no such thing, nor at real-time priority.
void prefer_short_slices() noexcept;

/// Restricts the calling thread to the given host CPUs; an empty list changes nothing. Throws
/// Error.
void pin_current_thread(const std::vector<int>& cpus);
/// The same for any thread of this user's, by its id; 0 is the calling one. Throws Error.
void pin_thread(pid_t thread, const std::vector<int>& cpus);

}  // namespace tsvmm
