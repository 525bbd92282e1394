#include "addon/arguments.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tsvmm {

void wrong(Napi::Env env, const char* name, const char* wanted) {
  throw Napi::TypeError::New(env, std::string(name) + " must be " + wanted);
}

uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0) || number != std::floor(number) || number > static_cast<double>(max)) {
    wrong(value.Env(), name, ("a whole number from 0 to " + std::to_string(max)).c_str());
  }
  return static_cast<uint64_t>(number);
}

int fd_argument(const Napi::Value& value, const char* name) {
  return static_cast<int>(to_uint(value, name, std::numeric_limits<int>::max()));
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong(value.Env(), name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    wrong(value.Env(), name, "a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.Data() + array.ByteLength()};
}

Napi::Function to_function(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) wrong(value.Env(), name, "a function");
  return value.As<Napi::Function>();
}

Message to_message(const Napi::Value& bytes, const Napi::Value& descriptors) {
  Message message{.bytes = to_bytes(bytes, "message"), .descriptors = {}};
  for_each(descriptors, "descriptors", [&](const Napi::Value& fd) {
    message.descriptors.push_back(UniqueFd::duplicate(fd_argument(fd, "descriptors")));
  });
  return message;
}

Napi::Error from_error(Napi::Env env, const Error& error) {
  Napi::Error made = Napi::Error::New(env, error.what());
  made.Set("code", Napi::String::New(env, error.code()));
  return made;
}

Napi::Value from_bytes(Napi::Env env, std::span<const uint8_t> bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

}  // namespace tsvmm
