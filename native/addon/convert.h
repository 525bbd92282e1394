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

/// A whole number from 0 to `max`.
uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max = (1ULL << 53) - 1);
uint64_t uint_field(const Napi::Object& object, const char* name, uint64_t max = (1ULL << 53) - 1);
int fd_argument(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name);

MachineSpec to_machine_spec(const Napi::Value& value);
/// Duplicates every descriptor.
BootSpec to_boot_spec(const Napi::Value& value);

Napi::Object from_event(Napi::Env env, const MachineEvent& event);
/// An Error with `code`.
Napi::Error from_error(Napi::Env env, const Error& error);
/// Bytes as a new Uint8Array.
Napi::Value from_bytes(Napi::Env env, const std::vector<uint8_t>& bytes);

}  // namespace tsvmm
