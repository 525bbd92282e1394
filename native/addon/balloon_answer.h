#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "addon/answer_frame.h"
#include "addon/machine_handle.h"

namespace tsvmm {

/// An answer that is text around the bytes of memory that a machine's balloon leaves to its guest.
class BalloonAnswer {
 public:
  struct Text {
    AnswerFrame frame;
    std::string before;  ///< of the body, before the number
    std::string after;
  };

  /// `memory` is what the machine has, `balloon` what is in its balloon as far as is known.
  BalloonAnswer(std::shared_ptr<MachineHandle> machine, Text text, uint64_t memory,
                uint64_t balloon);

  /// Appends it with the balloon of this moment, or of the last one before the machine was being
  /// changed. One thread at a time.
  void append_to(std::vector<uint8_t>& answer);

 private:
  std::shared_ptr<MachineHandle> machine_;
  Text text_;
  uint64_t memory_;
  uint64_t balloon_;
};

}  // namespace tsvmm
