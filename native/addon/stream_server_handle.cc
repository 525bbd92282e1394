#include "addon/stream_server_handle.h"

#include <utility>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr napi_type_tag kStreamServerTag{0x7473766d6d2d7374, 0x7265616d732d3031};

}  // namespace

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

Napi::Value wrap(Napi::Env env, const std::shared_ptr<StreamServerHandle>& handle) {
  using Holder = std::shared_ptr<StreamServerHandle>;
  auto external =
      Napi::External<Holder>::New(env, new Holder(handle), [](Napi::Env, Holder* holder) {
        (*holder)->close();
        delete holder;
      });
  external.TypeTag(&kStreamServerTag);
  return external;
}

StreamServerHandle& unwrap_stream_server(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<void>>().CheckTypeTag(&kStreamServerTag)) {
    throw Napi::TypeError::New(value.Env(), "this is not a stream server");
  }
  return **value.As<Napi::External<std::shared_ptr<StreamServerHandle>>>().Data();
}

}  // namespace tsvmm
