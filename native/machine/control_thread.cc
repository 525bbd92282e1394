#include "machine/control_thread.h"

#include <utility>

#include "core/thread.h"

namespace tsvmm {

ControlThread::~ControlThread() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
    state_->changed.notify_all();
  }
  if (!thread_.joinable()) return;
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void ControlThread::submit(std::function<void()> operation, bool linger) {
  const std::lock_guard lock(state_->mutex);
  state_->items.push_back({std::move(operation), linger});
  if (state_->running) {
    state_->changed.notify_all();
    return;
  }
  // The previous thread has left its loop for good, so this wait is short.
  if (thread_.joinable()) thread_.join();
  try {
    thread_ = spawn_thread("machine-control", [state = state_] { run(*state); });
  } catch (...) {
    // What is reported as failed must not run with the next one.
    state_->items.pop_back();
    throw;
  }
  state_->running = true;
}

void ControlThread::run(State& state) {
  bool linger = false;
  std::unique_lock lock(state.mutex);
  for (;;) {
    if (linger) state.changed.wait(lock, [&] { return !state.items.empty() || state.closing; });
    if (state.items.empty()) {
      state.running = false;
      return;
    }
    linger = state.items.front().linger;
    auto operation = std::move(state.items.front().operation);
    state.items.pop_front();
    lock.unlock();
    operation();
    operation = nullptr;  // what it holds may be the owner, and goes without the lock
    lock.lock();
  }
}

}  // namespace tsvmm
