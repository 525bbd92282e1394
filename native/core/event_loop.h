#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/deadline.h"
#include "core/event_fd.h"
#include "core/poller.h"

namespace tsvmm {

/// An event loop on a named thread of its own, started by the first use, or when it is asked for.
/// Handlers run on that thread only.
///
/// add, modify, remove, post, begin and call may be used from any thread, including the loop's own.
///
/// remove() and call() wait for as long as it takes, which on a loop whose handlers can be stuck
/// (in a system call on a disk, for one) is for ever: there, from other threads, begin() is used.
class EventLoop {
 public:
  using Handler = std::function<void(IoEvents events)>;

  /// A task on its way through a loop.
  class Job {
   public:
    /// True once the task has run, or been dropped because the loop stopped.
    [[nodiscard]] bool wait(const Deadline& deadline);

   private:
    friend class EventLoop;
    void finish() noexcept;

    std::mutex mutex_;
    std::condition_variable changed_;
    bool finished_ = false;
  };

  enum class Start : uint8_t {
    kAtFirstUse,
    /// By start(), or by the first task that is waited for, as making a thread takes long. What is
    /// to be watched, or to be run without being waited for, waits until then.
    kWhenAsked,
  };

  explicit EventLoop(std::string thread_name, Start start = Start::kAtFirstUse);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Of a loop kWhenAsked, which is as any other from then on. Throws Error.
  void start();

  /// Watches `fd` (not owned). False for what cannot be waited for because it is always ready, such
  /// as a regular file.
  bool add(int fd, IoEvents events, Handler handler);
  /// Changes what is waited for; 0 keeps the registration but waits for nothing.
  void modify(int fd, IoEvents events);
  /// After the return the handler does not run and will not run again (unless called from within
  /// itself, where it finishes its current run). Also on a held loop. `fd` may be closed then.
  void remove(int fd);

  /// Runs `task` on the loop's thread, later.
  void post(std::function<void()> task);
  /// Runs `task` on the loop's thread, later, and returns a job to wait for. The task may run at
  /// any time until the loop has stopped, whether or not somebody waits for it.
  std::shared_ptr<Job> begin(std::function<void()> task);
  /// Runs `task` on the loop's thread and waits for it; in place there, or if none can be made.
  void call(const std::function<void()>& task);

  /// True once what was asked for so far has been done; at once if the loop has no thread.
  [[nodiscard]] bool wait_idle(const Deadline& deadline);

  /// True if another thread waits for the handler or task in progress to end. One that could run
  /// for long checks this from time to time. On the loop's thread.
  [[nodiscard]] bool is_wanted() const noexcept { return wanted_.load(std::memory_order_relaxed); }

  /// Asks the loop to hold when the handler in progress has ended. Tasks wait then as well.
  void begin_pause();
  /// True once the loop is held, which lasts until resume(). Not from the loop's own thread.
  [[nodiscard]] bool wait_paused(const Deadline& deadline);
  /// Lets the loop go on, or takes a begin_pause() back.
  void resume();

  /// Ends and joins the thread, drops all handlers. Also releases a paused loop. Idempotent; the
  /// loop does not start again. Tasks not yet run are dropped, and a call() that waits for one
  /// returns. Not from the loop's own thread.
  void stop();

 private:
  struct Watch {
    Handler handler;
    uint32_t generation;  ///< tells an event of this registration from one of an earlier use of the
                          ///< number
  };

  struct Task {
    std::function<void()> function;
    std::shared_ptr<Job> job;  ///< nullptr if there is no waiter
  };

  void ensure_poller_locked();
  void ensure_started_locked();
  void wake_locked() noexcept;
  void enqueue_locked(Task task);
  void run();
  void run_tasks();
  void dispatch(uint64_t tag, IoEvents events);
  void hold_while_paused();
  [[nodiscard]] bool on_loop_thread_locked() const;

  const std::string thread_name_;
  std::optional<Poller> poller_;  ///< since the first use
  EventFd wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  uint32_t next_generation_ = 0;
  std::vector<Task> tasks_;
  std::thread thread_;
  std::atomic<bool> wanted_ = false;
  bool deferred_;          ///< kWhenAsked, and not asked yet
  bool stopping_ = false;  ///< asked to end
  bool pause_requested_ = false;
  bool paused_ = false;
};

}  // namespace tsvmm
