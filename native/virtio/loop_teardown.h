#pragma once

#include <functional>
#include <memory>

#include "core/error.h"
#include "core/event_loop.h"

namespace tsvmm {

/// Tears down what a device does on an event loop: in one task there, which another thread waits
/// for until a deadline, and may wait for again if it timed out.
class LoopTeardown {
 public:
  /// True once `work` has run on the loop's thread, or the loop has stopped. `work` is begun by the
  /// first call and left alone by those that go on waiting for it. What it uses lives until then.
  [[nodiscard]] bool run(EventLoop& loop, const std::function<void()>& work,
                         const Deadline& deadline) noexcept {
    if (!job_) {
      try {
        job_ = loop.begin(work);
      } catch (const Error&) {
        // The loop has no thread and none can be made: nothing runs on it.
        work();
        return true;
      }
    }
    if (!job_->wait(deadline)) return false;
    job_.reset();
    return true;
  }
  [[nodiscard]] bool in_progress() const noexcept { return job_ != nullptr; }

 private:
  std::shared_ptr<EventLoop::Job> job_;
};

}  // namespace tsvmm
