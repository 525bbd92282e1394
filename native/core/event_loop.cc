#include "core/event_loop.h"

#include <array>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "core/thread.h"

namespace tsvmm {
namespace {

constexpr uint64_t kWakeTag = ~uint64_t{0};

uint64_t tag_of(int fd, uint32_t generation) {
  return uint64_t{generation} << 32 | static_cast<uint32_t>(fd);
}

}  // namespace

EventLoop::EventLoop(std::string thread_name, Start start)
    : thread_name_(std::move(thread_name)), deferred_(start == Start::kWhenAsked) {}

EventLoop::~EventLoop() { stop(); }

void EventLoop::ensure_poller_locked() {
  if (poller_) return;
  poller_.emplace();
  if (const int error = poller_->add(wake_.fd(), io::kReadable, kWakeTag)) {
    poller_.reset();
    throw Error::from_errno("watching a descriptor", error);
  }
}

void EventLoop::ensure_started_locked() {
  if (thread_.joinable() || stopping_) return;
  ensure_poller_locked();
  if (deferred_) return;
  thread_ = spawn_thread(thread_name_, [this] {
    prefer_short_slices();
    run();
  });
  // Whoever asked for the pause when there was no thread has woken none.
  if (pause_requested_) wake_locked();
}

void EventLoop::start() {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(deferred_, false) || !poller_) return;
  ensure_started_locked();
}

void EventLoop::wake_locked() noexcept {
  wanted_.store(true, std::memory_order_relaxed);
  wake_.signal();
}

bool EventLoop::on_loop_thread_locked() const {
  return thread_.get_id() == std::this_thread::get_id();
}

bool EventLoop::add(int fd, IoEvents events, Handler handler) {
  const std::lock_guard lock(mutex_);
  ensure_started_locked();
  if (stopping_) return false;
  const uint32_t generation = next_generation_++ & 0x7fffffff;
  if (const int error = poller_->add(fd, events, tag_of(fd, generation))) {
    if (error == EPERM) return false;
    throw Error::from_errno("watching a descriptor", error);
  }
  watches_[fd] = std::make_shared<Watch>(Watch{std::move(handler), generation});
  return true;
}

void EventLoop::modify(int fd, IoEvents events) {
  const std::lock_guard lock(mutex_);
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  poller_->modify(fd, events, tag_of(fd, found->second->generation));
}

void EventLoop::remove(int fd) {
  const auto erase_locked = [this, fd] {
    if (watches_.erase(fd) != 0) poller_->remove(fd);
  };
  const auto erase = [this, &erase_locked] {
    const std::lock_guard lock(mutex_);
    erase_locked();
  };
  {
    const std::lock_guard lock(mutex_);
    // While the loop is held, or has no thread, no handler is in progress, and none begins.
    if (paused_ || (!thread_.joinable() && !stopping_)) return erase_locked();
    if (!watches_.contains(fd)) return;
  }
  // Running on the loop's thread is what makes sure that the handler is not in progress.
  call(erase);
}

bool EventLoop::Job::wait(const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  return deadline.wait(lock, changed_, [this] { return finished_; });
}

void EventLoop::Job::finish() noexcept {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_all();
}

void EventLoop::enqueue_locked(Task task) {
  ensure_started_locked();
  tasks_.push_back(std::move(task));
  wake_locked();
}

void EventLoop::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (!stopping_) enqueue_locked({std::move(task), nullptr});
}

std::shared_ptr<EventLoop::Job> EventLoop::begin(std::function<void()> task) {
  auto job = std::make_shared<Job>();
  const std::lock_guard lock(mutex_);
  if (stopping_) {
    job->finish();
  } else {
    deferred_ = false;
    enqueue_locked({std::move(task), job});
  }
  return job;
}

void EventLoop::call(const std::function<void()>& task) {
  bool here;
  {
    const std::lock_guard lock(mutex_);
    here = on_loop_thread_locked() && !stopping_;
  }
  if (here) return task();
  std::shared_ptr<Job> job;
  try {
    job = begin(task);
  } catch (const Error&) {
    // It has no thread and none can be made: nothing else runs on it. Destructors end here.
    run_tasks();
    return task();
  }
  (void)job->wait(Deadline::never());
}

bool EventLoop::wait_idle(const Deadline& deadline) {
  const auto job = std::make_shared<Job>();
  {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable() || stopping_) return true;
    enqueue_locked({[] {}, job});
  }
  return job->wait(deadline);
}

void EventLoop::begin_pause() {
  const std::lock_guard lock(mutex_);
  if (pause_requested_) return;
  pause_requested_ = true;
  if (thread_.joinable() && !stopping_) wake_locked();
}

bool EventLoop::wait_paused(const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  return deadline.wait(lock, changed_, [this] {
    return paused_ || stopping_ || !thread_.joinable() || !pause_requested_;
  });
}

void EventLoop::resume() {
  const std::lock_guard lock(mutex_);
  pause_requested_ = false;
  changed_.notify_all();
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    pause_requested_ = false;
    wake_locked();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  std::vector<Task> dropped;
  {
    const std::lock_guard lock(mutex_);
    watches_.clear();
    dropped.swap(tasks_);
  }
  for (const Task& task : dropped) {
    if (task.job) task.job->finish();
  }
}

void EventLoop::run() {
  std::array<Poller::Event, Poller::kMaxEvents> room;
  for (;;) {
    const auto events = poller_->wait(room);
    // First of all, so that what is asked for after it has been looked at below wakes us again, or
    // ends the handler in progress.
    wanted_.store(false, std::memory_order_relaxed);
    for (const Poller::Event& event : events) {
      if (event.tag == kWakeTag) (void)wake_.consume();
    }
    hold_while_paused();
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    run_tasks();
    for (const Poller::Event& event : events) {
      if (event.tag != kWakeTag) dispatch(event.tag, event.events);
    }
  }
}

void EventLoop::dispatch(uint64_t tag, IoEvents events) {
  std::shared_ptr<Watch> watch;
  {
    const std::lock_guard lock(mutex_);
    const auto found = watches_.find(static_cast<int>(tag & 0xffffffff));
    if (found == watches_.end() || found->second->generation != tag >> 32) return;
    watch = found->second;
  }
  watch->handler(events);
}

void EventLoop::run_tasks() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) {
    // Whoever waits for one behind it waits for it as well, and may have asked before `wanted_` was
    // last cleared.
    if (&task != &tasks.back()) wanted_.store(true, std::memory_order_relaxed);
    task.function();
    task.function = nullptr;
    if (task.job) task.job->finish();
  }
}

void EventLoop::hold_while_paused() {
  std::unique_lock lock(mutex_);
  if (!pause_requested_) return;
  paused_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !pause_requested_; });
  paused_ = false;
}

}  // namespace tsvmm
