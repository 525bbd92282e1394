#include "addon/balloon_answer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tsvmm {

BalloonAnswer::BalloonAnswer(std::shared_ptr<MachineHandle> machine, Text text, uint64_t memory,
                             uint64_t balloon)
    : machine_(std::move(machine)), text_(std::move(text)), memory_(memory), balloon_(balloon) {}

void BalloonAnswer::append_to(std::vector<uint8_t>& answer) {
  try {
    balloon_ = machine_->machine().balloon_size();
  } catch (const Error&) {
    // It is being changed, or has ended: nobody waits for that.
  }
  // A guest can claim what it likes of its balloon.
  const uint64_t left = memory_ - std::min(memory_, balloon_);
  text_.frame.append_to(answer, text_.before + std::to_string(left) + text_.after);
}

}  // namespace tsvmm
