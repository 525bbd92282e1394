#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/message.h"

namespace tsvmm {

// Arguments of calls as C++ values. All of these throw Napi::TypeError naming the argument.

[[noreturn]] void wrong(Napi::Env env, const char* name, const char* wanted);

/// A whole number from 0 to `max`.
uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max = (1ULL << 53) - 1);
int fd_argument(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name);
Napi::Function to_function(const Napi::Value& value, const char* name);
/// Bytes, and duplicates of the descriptors in an array.
Message to_message(const Napi::Value& bytes, const Napi::Value& descriptors);

template <typename Each>
void for_each(const Napi::Value& value, const char* name, const Each& each) {
  if (!value.IsArray()) wrong(value.Env(), name, "an array");
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    each(array.Get(i));
  }
}

// What is handed to JavaScript.

/// An Error with `code`.
Napi::Error from_error(Napi::Env env, const Error& error);
/// Bytes as a new Uint8Array.
Napi::Value from_bytes(Napi::Env env, std::span<const uint8_t> bytes);

}  // namespace tsvmm
