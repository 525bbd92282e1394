#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace tsvmm {

/// Runs a machine's slow operations one after the other, on a thread that exists only while there
/// are any: an idle machine has none.
class ControlThread {
 public:
  ControlThread() = default;
  /// Waits for the operations that were submitted.
  ~ControlThread();
  ControlThread(const ControlThread&) = delete;
  ControlThread& operator=(const ControlThread&) = delete;

  /// `operation` must not throw. With `linger` the thread then waits for the next one, because it
  /// is known to come soon. Throws Error if no thread can be made.
  void submit(std::function<void()> operation, bool linger = false);

 private:
  struct Item {
    std::function<void()> operation;
    bool linger;
  };
  /// The thread's share: it may outlive the owner, whose last reference its last operation may have
  /// held.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Item> items;
    bool running = false;
    bool closing = false;
  };
  static void run(State& state);

  std::shared_ptr<State> state_ = std::make_shared<State>();
  std::thread thread_;
};

}  // namespace tsvmm
