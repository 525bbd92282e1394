#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/event_fd.h"
#include "disk/container.h"

namespace tsvmm::disk_test {

/// What goes wrong between a queue and the host, once.
enum class Refusal {
  kSubmission,  ///< the host takes nothing now, and tells nobody when it does
  kOperation,   ///< it takes an operation, and fails it
};

/// Counts what is handed to the host by all queues below, and refuses one of these.
class RefusingHost {
 public:
  RefusingHost(Refusal refusal, uint64_t at) : refusal_(refusal), at_(at) {}

  /// Of operations that are handed on together.
  [[nodiscard]] bool takes() noexcept {
    return refusal_ != Refusal::kSubmission || count_++ != at_;
  }
  /// Of one that was taken.
  [[nodiscard]] bool fails() noexcept { return refusal_ == Refusal::kOperation && count_++ == at_; }
  /// `then` is called when something has been taken next, in the thread that handed it on.
  void when_taken(std::function<void()> then) {
    const std::lock_guard lock(mutex_);
    then_ = std::move(then);
  }
  void taken() noexcept {
    std::function<void()> then;
    {
      const std::lock_guard lock(mutex_);
      then.swap(then_);
    }
    if (then) then();
  }
  /// Whether it came to that.
  [[nodiscard]] bool refused() const noexcept { return count_ > at_; }

 private:
  const Refusal refusal_;
  const uint64_t at_;
  std::atomic<uint64_t> count_ = 0;
  std::mutex mutex_;
  std::function<void()> then_;
};

/// A queue that does not begin with anything before submit(), and whose operations end later.
class RefusingQueue final : public DiskQueue {
 public:
  RefusingQueue(RefusingHost& host, std::unique_ptr<DiskQueue> inner)
      : host_(host), inner_(std::move(inner)) {}

  void start(DiskOperation& operation) noexcept override { started_.push_back(&operation); }
  void submit() noexcept override {
    if (started_.empty() || !host_.takes()) return;
    for (DiskOperation* const operation : std::exchange(started_, {})) run(*operation);
    looked_ = false;
    event_.signal();
    host_.taken();
  }
  DiskOperation* next_completed() noexcept override {
    // Whoever has just handed it on finds nothing, and has to wait.
    if (!std::exchange(looked_, true)) return nullptr;
    if (ended_.empty()) return nullptr;
    DiskOperation* const operation = ended_.front();
    ended_.pop_front();
    if (ended_.empty()) (void)event_.consume();
    return operation;
  }
  [[nodiscard]] bool needs_submit() const noexcept override { return !started_.empty(); }
  void wait() noexcept override {
    submit();
    looked_ = true;
  }
  [[nodiscard]] int completion_fd() const noexcept override { return event_.fd(); }

 private:
  void run(DiskOperation& operation) noexcept {
    if (host_.fails()) {
      operation.error = EIO;
      ended_.push_back(&operation);
      return;
    }
    inner_->start(operation);
    inner_->submit();
    DiskOperation* ended = inner_->next_completed();
    for (; ended == nullptr; ended = inner_->next_completed()) inner_->wait();
    ended_.push_back(ended);
  }

  RefusingHost& host_;
  const std::unique_ptr<DiskQueue> inner_;
  std::vector<DiskOperation*> started_;
  std::deque<DiskOperation*> ended_;
  bool looked_ = true;
  EventFd event_;
};

/// A disk whose queues meet that host.
class RefusingImage final : public DiskImage {
 public:
  RefusingImage(RefusingHost& host, std::unique_ptr<DiskImage> image)
      : host_(host), image_(std::move(image)) {}

  [[nodiscard]] uint64_t size() const noexcept override { return image_->size(); }
  [[nodiscard]] DiskLimits limits() const noexcept override { return image_->limits(); }
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
    return std::make_unique<RefusingQueue>(host_, image_->make_queue(depth));
  }
  void resize(uint64_t bytes) override { image_->resize(bytes); }

 private:
  RefusingHost& host_;
  const std::unique_ptr<DiskImage> image_;
};

/// The same of the file that an image of some format is kept in.
class RefusingContainer final : public Container {
 public:
  RefusingContainer(RefusingHost& host, int fd) : host_(host), file_(fd, false, kPlain) {}

  [[nodiscard]] uint64_t size() const noexcept override { return file_.size(); }
  [[nodiscard]] DiskLimits limits() const noexcept override { return file_.limits(); }
  [[nodiscard]] bool grows() const noexcept override { return file_.grows(); }
  [[nodiscard]] int read(uint64_t offset, std::span<uint8_t> bytes) noexcept override {
    return file_.read(offset, bytes);
  }
  [[nodiscard]] int write(uint64_t offset, std::span<iovec> buffers) noexcept override {
    return file_.write(offset, buffers);
  }
  [[nodiscard]] int sync() noexcept override { return file_.sync(); }
  [[nodiscard]] int grow(uint64_t bytes) noexcept override { return file_.grow(bytes); }
  [[nodiscard]] int truncate(uint64_t bytes) noexcept override { return file_.truncate(bytes); }
  void discard(uint64_t offset, uint64_t length) noexcept override {
    file_.discard(offset, length);
  }
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
    return std::make_unique<RefusingQueue>(host_, file_.make_queue(depth));
  }

 private:
  static constexpr DiskEngines kPlain{.io_uring = false, .linux_aio = false};

  RefusingHost& host_;
  FileContainer file_;
};

}  // namespace tsvmm::disk_test
