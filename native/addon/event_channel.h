#pragma once

#include <napi.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "machine/machine_event.h"

namespace tsvmm {

/// The one stream from a machine's threads to the JavaScript thread: events, and the ends of
/// operations.
///
/// What a guest can cause at will is bounded: when kMaxEvents wait, further device events are
/// dropped (their number is not, because nobody could act on it). Events that end a run,
/// or stop the guest for its debugger, and the ends of operations always get through.
///
/// Channels take turns: what comes while one is drained waits for the event loop's next turn. Bun
/// serves a thread-safe function for as long as it is called, so that a channel that is always busy
/// (clients that flood a server) would keep the thread from the ends of operations of all others.
class EventChannel : public MachineEventSink, public std::enable_shared_from_this<EventChannel> {
 public:
  static constexpr size_t kMaxEvents = 256;
  /// Runs on the JavaScript thread.
  using Task = std::function<void(Napi::Env env)>;

  /// JavaScript thread. Keeps the event loop alive until close(). Throws Napi::Error.
  static std::shared_ptr<EventChannel> open(Napi::Env env, const Napi::Function& on_event);
  EventChannel(const EventChannel&) = delete;
  EventChannel& operator=(const EventChannel&) = delete;

  void emit(MachineEvent event) noexcept override;
  void post(Task task) noexcept;
  /// JavaScript thread. Whether the channel keeps the event loop alive.
  void keep_alive(Napi::Env env, bool alive) noexcept;
  /// JavaScript thread. No event is delivered afterwards.
  void mute() noexcept { on_event_.Reset(); }
  /// JavaScript thread. mute(), and the event loop may end. Idempotent.
  void close() noexcept;
  /// JavaScript thread, when its environment ends: close(), and what waits is dropped. From now on
  /// no thread calls into the runtime.
  void cut() noexcept;
  /// JavaScript thread.
  [[nodiscard]] bool closed() const noexcept { return closed_; }

 private:
  explicit EventChannel(const Napi::Function& on_event) : on_event_(Napi::Persistent(on_event)) {}

  void enqueue(Task task, bool droppable) noexcept;
  void drain(Napi::Env env);
  void drain_next_turn(Napi::Env env);
  void wake_locked() noexcept;

  Napi::FunctionReference on_event_;  ///< JavaScript thread only
  /// Keeps the channel alive until its finalizer; with mutex_ held. nullptr once it is released: it
  /// may be freed then.
  napi_threadsafe_function wake_ = nullptr;
  std::mutex mutex_;
  std::deque<Task> tasks_;
  bool woken_ = false;  ///< drain() is to come, or runs
  bool closed_ = false;
};

}  // namespace tsvmm
