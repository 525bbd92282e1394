#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/answer_frame.h"
#include "addon/machine_handle.h"

namespace tsvmm {

/// An answer that is text with a machine's counters in it and begins with its own length: what the
/// text means, only those know who wrote it.
class CountersAnswer {
 public:
  /// Text, and the counter whose value follows it.
  struct Piece {
    std::string text;
    std::string device;
    std::string counter;
  };

  /// Throws Error if these are not just the counters that the machine has, or it cannot be asked.
  CountersAnswer(std::shared_ptr<MachineHandle> machine, AnswerFrame frame,
                 const std::vector<Piece>& pieces, std::string tail);

  /// Appends it with the values of this moment. False, and nothing is appended, while the machine
  /// is being changed, or once it counts other things than it did.
  [[nodiscard]] bool append_to(std::vector<uint8_t>& answer) const;

 private:
  struct Value {
    std::string text;  ///< before it
    size_t device;
    size_t counter;
  };

  /// An ended machine has no counters; what is left of it is freed by the JavaScript thread, which
  /// has this object forgotten.
  std::shared_ptr<MachineHandle> machine_;
  AnswerFrame frame_;
  std::vector<Value> values_;
  std::string tail_;
  std::vector<DeviceSet::DeviceCounters> known_;
};

}  // namespace tsvmm
