#include "machine/balloon_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace tsvmm {

BalloonText::BalloonText(std::shared_ptr<Machine> machine, const Value& text)
    : machine_(std::move(machine)) {
  text.map([this](Fields& fields) {
    frame_ = read_frame(fields);
    before_ = fields["before"].text();
    after_ = fields["after"].text();
    device_ = fields["device"].text();
    memory_ = fields["memory"].number();
    balloon_ = fields["balloon"].number();
  });
}

bool BalloonText::append_to(std::vector<uint8_t>& answer) {
  look();
  // A guest can claim what it likes of its balloon.
  const uint64_t left = memory_ - std::min(memory_, balloon_);
  frame_.append_to(answer, before_ + std::to_string(left) + after_);
  return true;
}

void BalloonText::look() {
  try {
    for (const auto& [id, status] : machine_->status()) {
      for (const auto& [name, value] : status) {
        if (id == device_ && std::string_view(name) == "size") balloon_ = value;
      }
    }
  } catch (const Error&) {
    // It is being changed, or has ended: nobody waits for that.
  }
}

}  // namespace tsvmm
