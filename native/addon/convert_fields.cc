#include "addon/convert_fields.h"

#include <cmath>

namespace tsvmm {

void wrong(Napi::Env env, const char* name, const char* wanted) {
  throw Napi::TypeError::New(env, std::string(name) + " must be " + wanted);
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong(value.Env(), name, "an object");
  return value.As<Napi::Object>();
}

Napi::Object object_field(const Napi::Object& object, const char* name) {
  return to_object(object.Get(name), name);
}

bool bool_field(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) wrong(object.Env(), name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string string_field(const Napi::Object& object, const char* name) {
  return to_string(object.Get(name), name);
}

UniqueFd fd_field(const Napi::Object& object, const char* name) {
  return UniqueFd::duplicate(fd_argument(object.Get(name), name));
}

uint64_t to_uint(const Napi::Value& value, const char* name, uint64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0) || number != std::floor(number) || number > static_cast<double>(max)) {
    wrong(value.Env(), name, ("a whole number from 0 to " + std::to_string(max)).c_str());
  }
  return static_cast<uint64_t>(number);
}

uint64_t uint_field(const Napi::Object& object, const char* name, uint64_t max) {
  return to_uint(object.Get(name), name, max);
}

uint64_t u64_field(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsBigInt() ? to_address(value, name) : to_uint(value, name);
}

uint64_t to_address(const Napi::Value& value, const char* name) {
  bool lossless = false;
  const uint64_t address =
      value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : uint64_t{0};
  if (!lossless) wrong(value.Env(), name, "a BigInt of 64 bits");
  return address;
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

}  // namespace tsvmm
