#include "device/char_backend_source.h"

#include <array>
#include <string_view>

namespace tsvmm {
namespace {

using Kind = CharBackendSpec::Kind;

/// The words of CharBackendSpec::Kind, and the field with the descriptor that output goes to.
constexpr std::array<std::string_view, 5> kKinds{"null", "tty", "file", "pty", "socket"};
constexpr std::array<std::string_view, 5> kOutputs{"", "output", "fd", "fd", "listener"};

}  // namespace

CharBackendSource read_char_backend(const Value& value) {
  return value.map([](Fields& fields) {
    CharBackendSource source;
    const auto take = [&](std::string_view field) {
      source.descriptors.push_back(fields[field].descriptor());
      return source.descriptors.back().get();
    };
    const size_t kind = fields["kind"].choice(kKinds);
    source.spec.kind = static_cast<Kind>(kind);
    if (source.spec.kind != Kind::kNull) source.spec.output = take(kOutputs[kind]);
    if (source.spec.kind == Kind::kTty && fields.has("input")) source.spec.input = take("input");
    if (fields.has("log")) source.spec.log = take("log");
    return source;
  });
}

}  // namespace tsvmm
