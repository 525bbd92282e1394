#include "addon/event_channel.h"

#include <utility>

#include "addon/convert.h"

namespace tsvmm {

std::shared_ptr<EventChannel> EventChannel::open(Napi::Env env, const Napi::Function& on_event) {
  std::shared_ptr<EventChannel> channel(new EventChannel(on_event));
  using Keeper = std::shared_ptr<EventChannel>;
  const auto finalize = [](napi_env, void* keeper, void*) { delete static_cast<Keeper*>(keeper); };
  const auto on_wake = [](napi_env wake_env, napi_value, void* context, void*) {
    // No environment: it is being torn down, and nobody is left to tell.
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
  const bool droppable = !event.ends_run();
  enqueue(
      [this, event = std::move(event)](Napi::Env env) {
        if (!on_event_.IsEmpty()) on_event_.Call({from_event(env, event)});
      },
      droppable);
}

void EventChannel::post(Task task) noexcept { enqueue(std::move(task), false); }

void EventChannel::enqueue(Task task, bool droppable) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_ || (droppable && tasks_.size() >= kMaxEvents)) return;
  tasks_.push_back(std::move(task));
  // One wake-up is enough for however many tasks gather until it is served.
  if (!std::exchange(woken_, true)) {
    napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
  }
}

void EventChannel::drain(Napi::Env env) {
  std::deque<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
    woken_ = false;
  }
  while (!tasks.empty()) {
    const Napi::HandleScope scope(env);
    const Task task = std::move(tasks.front());
    tasks.pop_front();
    try {
      task(env);
    } catch (const Napi::Error& error) {
      // A listener threw. What comes after it is still delivered, in a turn of its own.
      const std::lock_guard lock(mutex_);
      tasks_.insert(tasks_.begin(), std::make_move_iterator(tasks.begin()),
                    std::make_move_iterator(tasks.end()));
      if (!tasks_.empty() && !closed_ && !std::exchange(woken_, true)) {
        napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
      }
      error.ThrowAsJavaScriptException();
      return;
    }
  }
}

void EventChannel::close() noexcept {
  mute();
  const std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true)) return;
  napi_release_threadsafe_function(wake_, napi_tsfn_release);
}

}  // namespace tsvmm
