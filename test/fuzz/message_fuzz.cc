// The boundary: any bytes are refused or read, whatever they are taken for, and what was read is
// within them.
#include <unistd.h>

#include <cstdlib>
#include <span>
#include <vector>

#include "core/cbor_reader.h"
#include "core/error.h"
#include "core/message.h"
#include "core/utf8.h"
#include "machine/machine_commands.h"
#include "machine/machine_spec.h"
#include "virtio/device_kind.h"

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

template <typename Work>
void question(const Work& work) {
  try {
    work();
  } catch (const Error&) {
    // That is an answer, too.
  }
}

void ask(const Value& value, unsigned depth) {
  question([&] { (void)value.number(); });
  question([&] { (void)value.text(); });
  question([&] { (void)value.boolean(); });
  question([&] { (void)value.exactly<6>(); });
  question([&] { (void)value.descriptor(); });
  if (depth == 0) return;
  question([&] { value.each([&](const Value& element) { ask(element, depth - 1); }); });
  question([&] {
    value.map([&](Fields& fields) {
      for (const auto* name : {"a", "b", "kind"}) ask(fields[name], depth - 1);
    });
  });
}

/// Everything that reads a message of the layer above.
void read_as_anything(const std::vector<uint8_t>& bytes) {
  const auto message = [&] {
    Message made{.bytes = bytes, .descriptors = {}};
    made.descriptors.push_back(UniqueFd::duplicate(STDERR_FILENO));
    return made;
  };
  const auto reading = [&](const auto& use) {
    question([&] {
      Message whole = message();
      MessageReader reader(whole);
      use(reader.value());
    });
  };
  reading([](const Value& value) { (void)read_machine_spec(value); });
  reading([](const Value& value) { (void)read_boot_spec(value); });
  for (const DeviceKind& kind : device_kinds()) {
    reading([&](const Value& value) { (void)value.map(kind.read); });
  }
  question([&] { (void)MachineCommand(message()); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(data, size);
  question([&] {
    check_items(read_cbor(bytes), bytes);
    MessageReader reader(bytes, {});
    ask(reader.value(), 3);
  });
  read_as_anything({bytes.begin(), bytes.end()});
  return 0;
}
