#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/message.h"
#include "machine/answer_frame.h"
#include "machine/machine.h"

namespace tsvmm {

/// A text with a machine's counters in it, which begins with its own length: what the text means,
/// only those know who wrote it.
class CountersText {
 public:
  /// `text` is a map: a frame; `pieces`, each with `text`, and `device` and `counter` whose value
  /// follows it; and `tail`. Throws Error if these are not just the counters that the machine has,
  /// or it cannot be asked.
  CountersText(std::shared_ptr<Machine> machine, const Value& text);

  /// Appends it with the values of this moment. False, and nothing is appended, while the machine
  /// is being changed, or once it counts other things than it did.
  [[nodiscard]] bool append_to(std::vector<uint8_t>& bytes) const;

 private:
  struct Piece {
    std::string text;  ///< before the value
    size_t device;
    size_t counter;
  };

  void read(Fields& fields);
  [[nodiscard]] Piece read_piece(Fields& fields) const;

  std::shared_ptr<Machine> machine_;
  AnswerFrame frame_;
  std::vector<Piece> pieces_;
  std::string tail_;
  std::vector<DeviceCounters> known_;
};

}  // namespace tsvmm
