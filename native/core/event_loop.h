#pragma once

#include <cstdint>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/event_fd.h"

namespace tsvmm {

/// An epoll loop on a named thread of its own, started by the first use. Handlers run on that thread only.
///
/// add, modify, remove, post and call may be used from any thread, including the loop's own.
class EventLoop {
 public:
  using Handler = std::function<void(uint32_t epoll_events)>;

  explicit EventLoop(std::string thread_name);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Watches `fd` (not owned) level-triggered. False if epoll refuses the descriptor (EPERM for a regular file).
  bool add(int fd, uint32_t epoll_events, Handler handler);
  /// Changes what is waited for; 0 keeps the registration but waits for nothing.
  void modify(int fd, uint32_t epoll_events);
  /// After the return the handler does not run and will not run again (unless called from within itself, where it
  /// finishes its current run). The descriptor may be closed afterwards.
  void remove(int fd);

  /// Runs `task` on the loop's thread, later.
  void post(std::function<void()> task);
  /// Runs `task` on the loop's thread and waits for its end; runs it in place if called from there.
  void call(const std::function<void()>& task);

  /// Waits until the handler in progress has ended, then holds the loop. Tasks of call() and post() wait as well.
  /// Not from the loop's own thread. Nothing happens if already paused.
  void pause();
  void resume();

  /// Ends and joins the thread, drops all handlers. Also releases a paused loop. Idempotent.
  void stop();

 private:
  struct Watch {
    Handler handler;
  };

  void ensure_started();
  void run();
  void run_tasks();
  void wait_while_paused();
  [[nodiscard]] bool on_loop_thread() const;

  const std::string thread_name_;
  UniqueFd epoll_;
  EventFd wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::vector<std::function<void()>> tasks_;
  std::thread thread_;
  bool stopping_ = false;
  bool pause_requested_ = false;
  bool paused_ = false;
};

}  // namespace tsvmm
