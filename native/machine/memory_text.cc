#include "machine/memory_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace tsvmm {

MemoryText::MemoryText(std::shared_ptr<Machine> machine, const Value& text)
    : machine_(std::move(machine)) {
  text.map([this](Fields& fields) {
    frame_ = read_frame(fields);
    before_ = fields["before"].text();
    after_ = fields["after"].text();
    memory_ = fields["memory"].number();
    left_ = fields["left"].number();
  });
}

bool MemoryText::append_to(std::vector<uint8_t>& answer) {
  look();
  frame_.append_to(answer, before_ + std::to_string(left_) + after_);
  return true;
}

void MemoryText::look() {
  uint64_t plugged = 0;
  uint64_t ballooned = 0;
  try {
    for (const auto& [id, status] : machine_->status()) {
      for (const auto& [name, value] : status) {
        if (std::string_view(name) == "plugged") plugged += value;
        if (std::string_view(name) == "ballooned") ballooned += value;
      }
    }
  } catch (const Error&) {
    return;  // It is being changed, or has ended: this must not wait.
  }
  // A guest can report any size of its balloon.
  const uint64_t most = memory_ + plugged;
  left_ = most - std::min(most, ballooned);
}

}  // namespace tsvmm
