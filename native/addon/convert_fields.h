#pragma once

#include <napi.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

// Single values of JavaScript as C++ ones. All of these throw Napi::TypeError naming the field.

[[noreturn]] void wrong(Napi::Env env, const char* name, const char* wanted);

/// A whole number from 0 to `max`.
uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max = (1ULL << 53) - 1);
uint64_t uint_field(const Napi::Object& object, const char* name, uint64_t max = (1ULL << 53) - 1);
/// As uint_field, or a BigInt of 64 bits without sign.
uint64_t u64_field(const Napi::Object& object, const char* name);
/// A BigInt of 64 bits without sign.
uint64_t to_address(const Napi::Value& value, const char* name);
int fd_argument(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name);

Napi::Object to_object(const Napi::Value& value, const char* name);
Napi::Object object_field(const Napi::Object& object, const char* name);
bool bool_field(const Napi::Object& object, const char* name);
std::string string_field(const Napi::Object& object, const char* name);
/// A duplicate of the descriptor.
UniqueFd fd_field(const Napi::Object& object, const char* name);

template <typename T>
T narrow_field(const Napi::Object& object, const char* name) {
  return static_cast<T>(uint_field(object, name, std::numeric_limits<T>::max()));
}

template <typename Each>
void for_each(const Napi::Value& value, const char* name, const Each& each) {
  if (!value.IsArray()) wrong(value.Env(), name, "an array");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    each(array.Get(i));
  }
}

}  // namespace tsvmm
