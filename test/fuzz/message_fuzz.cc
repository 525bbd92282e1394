// The encoding of the boundary: any bytes are refused or read, and what was read is within them.
#include <cstdlib>
#include <functional>

#include "core/cbor_reader.h"
#include "core/error.h"
#include "core/message.h"
#include "core/utf8.h"

using namespace tsvmm;

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void check_items(std::span<const CborItem> items, std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < items.size(); ++i) {
    check(items[i].next > i && items[i].next <= items.size());
    if (items[i].bytes.empty()) continue;
    check(items[i].bytes.data() >= bytes.data());
    check(items[i].bytes.data() + items[i].bytes.size() <= bytes.data() + bytes.size());
    if (items[i].type == CborItem::Type::kText) check(is_utf8(items[i].text()));
  }
}

/// What is asked for is there or refused, never anything else.
void ask(const Value& value, unsigned depth);

template <typename Ask>
void attempt(const Ask& question) {
  try {
    question();
  } catch (const Error&) {
    // That is an answer, too.
  }
}

void ask(const Value& value, unsigned depth) {
  attempt([&] { (void)value.number(); });
  attempt([&] { (void)value.text(); });
  attempt([&] { (void)value.boolean(); });
  attempt([&] { (void)value.exactly<6>(); });
  attempt([&] { (void)value.descriptor(); });
  if (depth == 0) return;
  attempt([&] { value.each([&](const Value& element) { ask(element, depth - 1); }); });
  attempt([&] {
    value.map([&](Fields& fields) {
      for (const auto* name : {"a", "b", "kind"}) ask(fields[name], depth - 1);
    });
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(data, size);
  attempt([&] {
    check_items(read_cbor(bytes), bytes);
    MessageReader reader(bytes, {});
    ask(reader.value(), 3);
  });
  return 0;
}
