#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/message.h"
#include "machine/answer_frame.h"
#include "machine/machine.h"

namespace tsvmm {

/// An answer that is text around the bytes of memory that a machine's balloon leaves to its guest.
class BalloonText {
 public:
  /// `text` is a map: a frame; `before` and `after` the number; `memory` that the machine has;
  /// `device`, the balloon's id; and `balloon`, what is in it as far as is known. Throws Error.
  BalloonText(std::shared_ptr<Machine> machine, const Value& text);

  /// Appends it with the balloon of this moment, or of the last one before the machine was being
  /// changed. One thread at a time. True.
  bool append_to(std::vector<uint8_t>& answer);

 private:
  void look();

  std::shared_ptr<Machine> machine_;
  AnswerFrame frame_;
  std::string before_;  ///< of the body, before the number
  std::string after_;
  std::string device_;
  uint64_t memory_ = 0;
  uint64_t balloon_ = 0;
};

}  // namespace tsvmm
