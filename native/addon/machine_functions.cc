#include <napi.h>

#include <memory>
#include <utility>
#include <vector>

#include "addon/environment.h"
#include "addon/exports.h"
#include "addon/machine_handle.h"

// The functions of src/boundary/machineCalls.ts (MachineAddon), in its order. They hand messages
// over and know nothing of what is in them.

namespace tsvmm {
namespace {

Napi::Value machine_create(Arguments info) {
  const Napi::Env env = info.Env();
  Message message = to_message(info[0], info[1]);
  MessageReader reader(message);
  MachineSpec spec = read_machine_spec(reader.value());
  auto channel = EventChannel::open(env, to_function(info[2], "onEvent"));
  Environment& environment = Environment::of(env);
  auto handle = std::make_shared<MachineHandle>(std::move(spec), std::move(channel),
                                                environment.take_control());
  const Napi::Value external = environment.machines().wrap(env, handle);
  handle->start_building(environment.take_precreated());
  return external;
}

Napi::Value machine_call(Arguments info) {
  return Machines::unwrap(info[0]).call(info.Env(), to_message(info[1], info[2]));
}

Napi::Value machine_ask(Arguments info) {
  return from_bytes(info.Env(), Machines::unwrap(info[0]).ask(to_bytes(info[1], "question")));
}

Napi::Value machine_keep(Arguments info) {
  const Napi::Env env = info.Env();
  if (!info[1].IsArray()) throw Napi::TypeError::New(env, "questions must be an array");
  const auto array = info[1].As<Napi::Array>();
  std::vector<std::vector<uint8_t>> questions;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    questions.push_back(to_bytes(array.Get(i), "question"));
  }
  Machines::unwrap(info[0]).keep(std::move(questions));
  return env.Undefined();
}

Napi::Value machine_kept(Arguments info) {
  return from_bytes(info.Env(), Machines::unwrap(info[0]).kept(info[1].ToNumber().Uint32Value()));
}

Napi::Value machine_call_off(Arguments info) {
  Machines::unwrap(info[0]).machine().cancel();
  return info.Env().Undefined();
}

Napi::Value machine_keep_alive(Arguments info) {
  Machines::unwrap(info[0]).keep_alive(info.Env(), info[1].ToBoolean());
  return info.Env().Undefined();
}

}  // namespace

void add_machine_functions(Napi::Object& exports) {
  add<machine_create>(exports, "machineCreate");
  add<machine_call>(exports, "machineCall");
  add<machine_ask>(exports, "machineAsk");
  add<machine_keep>(exports, "machineKeep");
  add<machine_kept>(exports, "machineKept");
  add<machine_call_off>(exports, "machineCallOff");
  add<machine_keep_alive>(exports, "machineKeepAlive");
}

}  // namespace tsvmm
