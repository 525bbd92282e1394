#include "machine/counters_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace tsvmm {
namespace {

/// Names are string literals of one program: the same ones have the same address.
bool count_the_same(const std::vector<DeviceCounters>& a, const std::vector<DeviceCounters>& b) {
  return std::ranges::equal(a, b, [](const DeviceCounters& first, const DeviceCounters& second) {
    return first.id == second.id &&
           std::ranges::equal(first.counters, second.counters, {}, &Counter::name, &Counter::name);
  });
}

}  // namespace

CountersText::CountersText(std::shared_ptr<Machine> machine, const Value& text)
    : machine_(std::move(machine)), known_(machine_->counters()) {
  text.map([this](Fields& fields) { read(fields); });
  size_t count = 0;
  for (const auto& device : known_) count += device.counters.size();
  if (count != pieces_.size()) throw Error("EINVAL", "the machine counts other things");
}

void CountersText::read(Fields& fields) {
  frame_ = read_frame(fields);
  fields["pieces"].each([this](const Value& piece) {
    pieces_.push_back(piece.map([this](Fields& inside) { return read_piece(inside); }));
  });
  tail_ = fields["tail"].text();
}

CountersText::Piece CountersText::read_piece(Fields& fields) const {
  const std::string id = fields["device"].text();
  const std::string name = fields["counter"].text();
  const auto device = std::ranges::find(known_, id, &DeviceCounters::id);
  if (device == known_.end()) throw Error("EINVAL", "there is no such device: " + id);
  const auto counter = std::ranges::find(device->counters, std::string_view(name),
                                         [](const Counter& one) { return one.name; });
  if (counter == device->counters.end()) throw Error("EINVAL", "there is no such counter: " + name);
  return {.text = fields["text"].text(),
          .device = static_cast<size_t>(device - known_.begin()),
          .counter = static_cast<size_t>(counter - device->counters.begin())};
}

bool CountersText::append_to(std::vector<uint8_t>& bytes) const {
  std::vector<DeviceCounters> now;
  try {
    now = machine_->counters();
  } catch (const Error&) {
    return false;
  }
  if (!count_the_same(now, known_)) return false;
  std::string body;
  for (const auto& [text, device, counter] : pieces_) {
    body.append(text).append(std::to_string(now[device].counters[counter].value));
  }
  body.append(tail_);
  frame_.append_to(bytes, body);
  return true;
}

}  // namespace tsvmm
