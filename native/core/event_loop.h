#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/event_fd.h"

namespace tsvmm {

/// An epoll loop on a named thread of its own, started by the first use. Handlers run on that
/// thread only.
///
/// add, modify, remove, post and call may be used from any thread, including the loop's own.
class EventLoop {
 public:
  using Handler = std::function<void(uint32_t epoll_events)>;

  explicit EventLoop(std::string thread_name);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Watches `fd` (not owned) level-triggered. False if epoll refuses the descriptor (EPERM for a
  /// regular file).
  bool add(int fd, uint32_t epoll_events, Handler handler);
  /// Changes what is waited for; 0 keeps the registration but waits for nothing.
  void modify(int fd, uint32_t epoll_events);
  /// After the return the handler does not run and will not run again (unless called from within
  /// itself, where it finishes its current run). The descriptor may be closed afterwards.
  void remove(int fd);

  /// Runs `task` on the loop's thread, later.
  void post(std::function<void()> task);
  /// Runs `task` on the loop's thread and waits for its end; runs it in place if called from there.
  void call(const std::function<void()>& task);

  /// True if somebody waits for the handler in progress to end: one that could go on for long looks
  /// at it from time to time. On the loop's thread.
  [[nodiscard]] bool is_wanted() const noexcept { return wanted_.load(std::memory_order_relaxed); }

  /// Waits until the handler in progress has ended, then holds the loop. Tasks of call() and post()
  /// wait as well. Not from the loop's own thread. Nothing happens if already paused.
  void pause();
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

  void ensure_started_locked();
  void wake_locked() noexcept;
  void run();
  void run_tasks();
  void dispatch(uint64_t tag, uint32_t epoll_events);
  void hold_while_paused();
  [[nodiscard]] bool on_loop_thread_locked() const;

  const std::string thread_name_;
  UniqueFd epoll_;
  EventFd wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  uint32_t next_generation_ = 0;
  std::vector<std::function<void()>> tasks_;
  std::thread thread_;
  std::atomic<bool> wanted_ = false;
  bool stopping_ = false;  ///< asked to end
  bool stopped_ = false;   ///< ended: no task runs any more
  bool pause_requested_ = false;
  bool paused_ = false;
};

}  // namespace tsvmm
