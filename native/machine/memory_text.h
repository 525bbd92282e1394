#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/message.h"
#include "machine/answer_frame.h"
#include "machine/machine.h"

namespace tsvmm {

/// An answer that is text around the bytes of memory that a machine's guest has: what it has at
/// boot, with what devices have given it since, and without what they have taken.
class MemoryText {
 public:
  /// `text` is a map: a frame; `before` and `after` the number; `memory` at boot; and `left`, the
  /// number as far as is known. Throws Error.
  MemoryText(std::shared_ptr<Machine> machine, const Value& text);

  /// Appends it with the memory of this moment, or of the last one before the machine was being
  /// changed. One thread at a time. True.
  bool append_to(std::vector<uint8_t>& answer);

 private:
  void look();

  std::shared_ptr<Machine> machine_;
  AnswerFrame frame_;
  std::string before_;  ///< of the body, before the number
  std::string after_;
  uint64_t memory_ = 0;
  uint64_t left_ = 0;
};

}  // namespace tsvmm
