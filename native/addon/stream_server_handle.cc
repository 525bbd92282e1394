#include "addon/stream_server_handle.h"

#include <utility>

#include "core/error.h"

namespace tsvmm {

std::shared_ptr<StreamServerHandle> StreamServerHandle::open(Napi::Env env,
                                                             const Napi::Function& on_event,
                                                             std::string thread_name) {
  auto channel = EventChannel::open(env, on_event);
  try {
    return std::shared_ptr<StreamServerHandle>(
        new StreamServerHandle(channel, on_event, std::move(thread_name)));
  } catch (const Error&) {
    channel->close();
    throw;
  }
}

void StreamServerHandle::post(ConnectionId id, const char* type) noexcept {
  channel_->post([weak = weak_from_this(), id, type](Napi::Env env) {
    const auto self = weak.lock();
    if (!self || self->on_event_.IsEmpty()) return;
    const auto number = Napi::Number::New(env, static_cast<double>(id));
    self->on_event_.Call({number, Napi::String::New(env, type)});
  });
}

void StreamServerHandle::close() noexcept {
  server_.stop();
  on_event_.Reset();
  channel_->close();
}

void StreamServerHandle::cut() noexcept {
  close();
  channel_->cut();
}

}  // namespace tsvmm
