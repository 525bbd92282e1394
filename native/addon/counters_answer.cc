#include "addon/counters_answer.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"

namespace tsvmm {
namespace {

using DeviceCounters = DeviceSet::DeviceCounters;

/// Names are string literals of one program: the same ones have the same address.
bool count_the_same(const std::vector<DeviceCounters>& a, const std::vector<DeviceCounters>& b) {
  return std::ranges::equal(a, b, [](const DeviceCounters& first, const DeviceCounters& second) {
    return first.id == second.id &&
           std::ranges::equal(first.counters, second.counters, {}, &Counter::name, &Counter::name);
  });
}

}  // namespace

CountersAnswer::CountersAnswer(std::shared_ptr<MachineHandle> machine, AnswerFrame frame,
                               const std::vector<Piece>& pieces, std::string tail)
    : machine_(std::move(machine)),
      frame_(std::move(frame)),
      tail_(std::move(tail)),
      known_(machine_->machine().counters()) {
  size_t count = 0;
  for (const auto& device : known_) count += device.counters.size();
  if (count != pieces.size()) throw Error("EINVAL", "the machine counts other things");
  for (const Piece& piece : pieces) {
    const auto device = std::ranges::find(known_, piece.device, &DeviceCounters::id);
    if (device == known_.end()) throw Error("EINVAL", "there is no such device: " + piece.device);
    const auto counter = std::ranges::find(device->counters, std::string_view(piece.counter),
                                           [](const Counter& one) { return one.name; });
    if (counter == device->counters.end()) {
      throw Error("EINVAL", "there is no such counter: " + piece.counter);
    }
    values_.push_back({.text = piece.text,
                       .device = static_cast<size_t>(device - known_.begin()),
                       .counter = static_cast<size_t>(counter - device->counters.begin())});
  }
}

bool CountersAnswer::append_to(std::vector<uint8_t>& answer) const {
  std::vector<DeviceCounters> now;
  try {
    now = machine_->machine().counters();
  } catch (const Error&) {
    return false;
  }
  if (!count_the_same(now, known_)) return false;
  std::string body;
  for (const auto& [text, device, counter] : values_) {
    body.append(text).append(std::to_string(now[device].counters[counter].value));
  }
  body.append(tail_);
  frame_.append_to(answer, body);
  return true;
}

}  // namespace tsvmm
