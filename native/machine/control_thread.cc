#include "machine/control_thread.h"

#include "core/thread.h"

namespace tsvmm {

ControlThread::~ControlThread() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void ControlThread::submit(std::function<void()> operation, bool linger) {
  const std::lock_guard lock(mutex_);
  items_.push_back({std::move(operation), linger});
  if (running_) {
    changed_.notify_all();
    return;
  }
  // The previous thread has left its loop for good, so this wait is short.
  if (thread_.joinable()) thread_.join();
  running_ = true;
  thread_ = spawn_thread("machine-control", [this] { run(); });
}

void ControlThread::run() {
  bool linger = false;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (linger) changed_.wait(lock, [this] { return !items_.empty() || closing_; });
    if (items_.empty()) {
      running_ = false;
      return;
    }
    Item item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    item.operation();
    lock.lock();
    linger = item.linger;
  }
}

}  // namespace tsvmm
