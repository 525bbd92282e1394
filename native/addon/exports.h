#pragma once

#include <napi.h>

#include <exception>

#include "addon/arguments.h"
#include "core/error.h"

namespace tsvmm {

using Arguments = const Napi::CallbackInfo&;

/// Turns the core's errors into JavaScript's: no C++ exception leaves the addon.
template <Napi::Value (*function)(Arguments)>
Napi::Value guarded(Arguments info) {
  try {
    return function(info);
  } catch (const Error& error) {
    throw from_error(info.Env(), error);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw from_error(info.Env(), Error("ERR_TSVMM_INTERNAL", error.what()));
  }
}

template <Napi::Value (*function)(Arguments)>
void add(Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<function>>(exports.Env(), name));
}

/// The functions of src/boundary/machineCalls.ts (MachineAddon).
void add_machine_functions(Napi::Object& exports);
/// The functions of src/boundary/host.ts (HostCalls).
void add_host_functions(Napi::Object& exports);
void add_stream_functions(Napi::Object& exports);

}  // namespace tsvmm
