#pragma once

#include <functional>
#include <memory>

#include "core/error.h"
#include "core/event_loop.h"

namespace tsvmm {

/// The end of what a device does on an event loop: done there in one piece, waited for from another
/// thread until a deadline, and waited for again if that was in vain.
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
        // The loop has no thread, and there can be none: nothing of it is at work.
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
