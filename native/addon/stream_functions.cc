#include <napi.h>

#include "addon/environment.h"
#include "addon/exports.h"
#include "addon/machine_handle.h"
#include "addon/stream_server_handle.h"
#include "machine/counters_text.h"
#include "machine/memory_text.h"

// The functions of src/boundary/host.ts (HostCalls) for servers of streams, in its order.

namespace tsvmm {
namespace {

std::shared_ptr<StreamServerHandle> open_stream_server(Napi::Env env, const Napi::Value& on_event,
                                                       std::string thread_name) {
  return StreamServerHandle::open(env, to_function(on_event, "onEvent"), std::move(thread_name));
}

Napi::Value serve_streams(Arguments info) {
  UniqueFd listener = UniqueFd::duplicate(fd_argument(info[0], "fd"));
  auto handle = open_stream_server(info.Env(), info[1], "http-server");
  try {
    handle->server().listen(std::move(listener));
  } catch (const Error&) {
    handle->close();
    throw;
  }
  return Environment::of(info.Env()).stream_servers().wrap(info.Env(), handle);
}

Napi::Value open_streams(Arguments info) {
  const Napi::Env env = info.Env();
  return Environment::of(env).stream_servers().wrap(env,
                                                    open_stream_server(env, info[0], "streams"));
}

StreamServer& server_argument(Arguments info) { return StreamServers::unwrap(info[0]).server(); }

Napi::Value stream_listen(Arguments info) {
  server_argument(info).listen(UniqueFd::duplicate(fd_argument(info[1], "fd")),
                               to_uint(info[2], "connections"));
  return info.Env().Undefined();
}

Napi::Value stream_adopt(Arguments info) {
  UniqueFd fd = UniqueFd::duplicate(fd_argument(info[1], "fd"));
  const auto id = server_argument(info).adopt(std::move(fd));
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

StreamServer::ConnectionId connection_argument(Arguments info) {
  return to_uint(info[1], "connection");
}

Napi::Value stream_take(Arguments info) {
  const Napi::Env env = info.Env();
  StreamServer::Received received = server_argument(info).take(connection_argument(info));
  Napi::Array descriptors = Napi::Array::New(env);
  for (UniqueFd& fd : received.segment.descriptors) {
    descriptors.Set(descriptors.Length(), give_fd(env, std::move(fd)));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", from_bytes(env, received.segment.bytes));
  object.Set("descriptors", descriptors);
  object.Set("more", Napi::Boolean::New(env, received.more));
  object.Set("ended", Napi::Boolean::New(env, received.ended));
  object.Set("gone", Napi::Boolean::New(env, received.gone));
  return object;
}

const char* name_of(StreamServer::Written written) {
  switch (written) {
    case StreamServer::Written::kLeft:
      return "left";
    case StreamServer::Written::kWaiting:
      return "waiting";
    case StreamServer::Written::kLost:
      return "lost";
  }
  return "lost";
}

Napi::Value stream_write(Arguments info) {
  const auto written =
      server_argument(info).write(connection_argument(info), to_bytes(info[2], "bytes"));
  return Napi::String::New(info.Env(), name_of(written));
}

Napi::Value stream_rest(Arguments info) {
  return Napi::Boolean::New(info.Env(), server_argument(info).rest(connection_argument(info)));
}

Napi::Value stream_end(Arguments info) {
  server_argument(info).end(connection_argument(info));
  return info.Env().Undefined();
}

Napi::Value stream_abort(Arguments info) {
  server_argument(info).abort(connection_argument(info));
  return info.Env().Undefined();
}

Napi::Value stream_longest_idle(Arguments info) {
  const auto id = server_argument(info).longest_idle();
  return id ? Napi::Number::New(info.Env(), static_cast<double>(*id)) : info.Env().Null();
}

Napi::Value stream_remember(Arguments info) {
  server_argument(info).remember(to_bytes(info[1], "request"), to_bytes(info[2], "answer"));
  return info.Env().Undefined();
}

/// An answer that is text with something of a machine in it: the message says what.
template <typename Text>
Napi::Value remember_text(Arguments info) {
  const auto handle = Machines::unwrap(info[2]).shared_from_this();
  Message message{.bytes = to_bytes(info[3], "text"), .descriptors = {}};
  MessageReader reader(message);
  const auto text =
      std::make_shared<Text>(std::shared_ptr<Machine>(handle, &handle->machine()), reader.value());
  server_argument(info).remember(to_bytes(info[1], "request"), [text](std::vector<uint8_t>& bytes) {
    return text->append_to(bytes);
  });
  return info.Env().Undefined();
}

Napi::Value stream_forget(Arguments info) {
  server_argument(info).forget(to_bytes(info[1], "request"));
  return info.Env().Undefined();
}

Napi::Value stop_listening(Arguments info) {
  server_argument(info).stop_listening();
  return info.Env().Undefined();
}

Napi::Value close_streams(Arguments info) {
  StreamServers::unwrap(info[0]).close();
  return info.Env().Undefined();
}

}  // namespace

void add_stream_functions(Napi::Object& exports) {
  add<serve_streams>(exports, "serveStreams");
  add<open_streams>(exports, "openStreams");
  add<stream_listen>(exports, "streamListen");
  add<stream_adopt>(exports, "streamAdopt");
  add<stream_take>(exports, "streamTake");
  add<stream_write>(exports, "streamWrite");
  add<stream_rest>(exports, "streamRest");
  add<stream_end>(exports, "streamEnd");
  add<stream_abort>(exports, "streamAbort");
  add<stream_longest_idle>(exports, "streamLongestIdle");
  add<stream_remember>(exports, "streamRemember");
  add<remember_text<MemoryText>>(exports, "streamRememberMemory");
  add<remember_text<CountersText>>(exports, "streamRememberCounters");
  add<stream_forget>(exports, "streamForget");
  add<stop_listening>(exports, "stopListening");
  add<close_streams>(exports, "closeStreams");
}

}  // namespace tsvmm
