#include "addon/event_channel.h"

#include <utility>

#include "addon/arguments.h"
#include "addon/environment.h"

namespace tsvmm {

std::shared_ptr<EventChannel> EventChannel::open(Napi::Env env, const Napi::Function& on_event) {
  std::shared_ptr<EventChannel> channel(new EventChannel(on_event));
  using Keeper = std::shared_ptr<EventChannel>;
  const auto finalize = [](napi_env, void* data, void*) {
    const std::unique_ptr<Keeper> keeper(static_cast<Keeper*>(data));
    // Unless the channel was closed the environment ends, and has freed the function itself.
    const std::lock_guard lock((*keeper)->mutex_);
    (*keeper)->closed_ = true;
    (*keeper)->wake_ = nullptr;
  };
  const auto on_wake = [](napi_env wake_env, napi_value, void* context, void*) {
    // No environment: it is being torn down, and no listener is left.
    if (wake_env != nullptr) (*static_cast<Keeper*>(context))->drain(wake_env);
  };
  auto* keeper = new Keeper(channel);
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "tsvmm machine"), 0, 1, keeper, finalize,
      keeper, on_wake, &channel->wake_);
  if (status != napi_ok) {
    delete keeper;
    throw Napi::Error::New(env, "no thread-safe function can be made");
  }
  return channel;
}

void EventChannel::emit(MachineEvent event) noexcept {
  const bool droppable = event.is_droppable();
  enqueue(
      [this, bytes = encode(event)](Napi::Env env) {
        if (!on_event_.IsEmpty()) on_event_.Call({from_bytes(env, bytes)});
      },
      droppable);
}

void EventChannel::post(Task task) noexcept { enqueue(std::move(task), false); }

void EventChannel::enqueue(Task task, bool droppable) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_ || (droppable && tasks_.size() >= kMaxEvents)) return;
  tasks_.push_back(std::move(task));
  // One wake-up is enough for however many tasks gather until it is served.
  if (!std::exchange(woken_, true)) wake_locked();
}

void EventChannel::wake_locked() noexcept {
  if (wake_ != nullptr) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void EventChannel::drain(Napi::Env env) {
  std::deque<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) {
    const Napi::HandleScope scope(env);
    try {
      task(env);
    } catch (const Napi::Error& error) {
      // A listener threw: that is an uncaught exception, as from any other callback of the event
      // loop, and what comes after it is still delivered. Where the environment is ending both do
      // nothing.
      napi_fatal_exception(env, error.Value());
    }
  }
  {
    const std::lock_guard lock(mutex_);
    woken_ = !tasks_.empty();
    if (!woken_) return;
  }
  drain_next_turn(env);
}

void EventChannel::drain_next_turn(Napi::Env env) {
  const Napi::HandleScope scope(env);
  try {
    Environment::of(env).set_immediate(Napi::Function::New(
        env,
        [self = shared_from_this()](const Napi::CallbackInfo& info) { self->drain(info.Env()); }));
  } catch (const Napi::Error&) {
    // The environment is ending, or has no setImmediate(): the runtime decides when.
    const std::lock_guard lock(mutex_);
    wake_locked();
  }
}

void EventChannel::keep_alive(Napi::Env env, bool alive) noexcept {
  const std::lock_guard lock(mutex_);
  if (wake_ == nullptr) return;
  if (alive) {
    napi_ref_threadsafe_function(env, wake_);
  } else {
    napi_unref_threadsafe_function(env, wake_);
  }
}

void EventChannel::close() noexcept {
  mute();
  const std::lock_guard lock(mutex_);
  closed_ = true;
  if (wake_ == nullptr) return;
  napi_release_threadsafe_function(std::exchange(wake_, nullptr), napi_tsfn_release);
}

void EventChannel::cut() noexcept {
  close();
  std::deque<Task> dropped;  // without the lock: a task may hold the last reference to this
  const std::lock_guard lock(mutex_);
  dropped.swap(tasks_);
}

}  // namespace tsvmm
