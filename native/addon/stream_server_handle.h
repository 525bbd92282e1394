#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "addon/event_channel.h"
#include "host/stream_server.h"

namespace tsvmm {

/// What a StreamServerHandle of JavaScript holds: a server, and its event channel.
class StreamServerHandle final : public StreamServer::Sink,
                                 public std::enable_shared_from_this<StreamServerHandle> {
 public:
  using ConnectionId = StreamServer::ConnectionId;
  static constexpr napi_type_tag kTag{0x7473766d6d2d7374, 0x7265616d732d3031};
  static constexpr const char* kName = "stream server";

  /// JavaScript thread.
  static std::shared_ptr<StreamServerHandle> open(Napi::Env env, const Napi::Function& on_event,
                                                  std::string thread_name);
  StreamServerHandle(const StreamServerHandle&) = delete;
  StreamServerHandle& operator=(const StreamServerHandle&) = delete;

  void opened(ConnectionId id) noexcept override { post(id, "opened"); }
  void received(ConnectionId id) noexcept override { post(id, "received"); }
  void drained(ConnectionId id) noexcept override { post(id, "drained"); }
  void gone(ConnectionId id) noexcept override { post(id, "gone"); }
  void closed(ConnectionId id) noexcept override { post(id, "closed"); }

  /// JavaScript thread. Closes everything; no event is delivered afterwards. Idempotent.
  void close() noexcept;
  /// JavaScript thread, when the handle was collected.
  void abandon() noexcept { close(); }
  /// JavaScript thread, when its environment ends: close(), and what waits is dropped.
  void cut() noexcept;

  [[nodiscard]] StreamServer& server() { return server_; }

 private:
  StreamServerHandle(std::shared_ptr<EventChannel> channel, const Napi::Function& on_event,
                     std::string thread_name)
      : channel_(std::move(channel)),
        on_event_(Napi::Persistent(on_event)),
        server_(*this, std::move(thread_name)) {}

  void post(ConnectionId id, const char* type) noexcept;

  std::shared_ptr<EventChannel> channel_;
  Napi::FunctionReference on_event_;  ///< JavaScript thread only
  StreamServer server_;
};

}  // namespace tsvmm
