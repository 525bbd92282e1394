#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "machine/machine_event.h"
#include "machine/machine_spec.h"

namespace tsvmm {

// JavaScript values to the core's and back. All of these throw Napi::TypeError naming the field
// that is missing or of the wrong type; ranges that only the core knows are checked there.

MachineSpec to_machine_spec(const Napi::Value& value);
/// Duplicates every descriptor.
BootSpec to_boot_spec(const Napi::Value& value);

Napi::Object from_event(Napi::Env env, const MachineEvent& event);
/// An Error with `code`.
Napi::Error from_error(Napi::Env env, const Error& error);
/// Bytes as a new Uint8Array.
Napi::Value from_bytes(Napi::Env env, const std::vector<uint8_t>& bytes);

}  // namespace tsvmm
