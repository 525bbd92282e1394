#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/message.h"

namespace tsvmm {

/// What goes around the body of an answer that begins with its own length.
struct AnswerFrame {
  std::string head;          ///< before the number of bytes of the body
  std::string after_length;  ///< between that and the body

  void append_to(std::vector<uint8_t>& answer, std::string_view body) const;
};

/// From the fields `head` and `afterLength` of a text. Throws ValueError.
[[nodiscard]] AnswerFrame read_frame(Fields& text);

}  // namespace tsvmm
