#include "machine/answer_frame.h"

#include <array>

namespace tsvmm {

void AnswerFrame::append_to(std::vector<uint8_t>& answer, std::string_view body) const {
  const std::string length = std::to_string(body.size());
  answer.reserve(answer.size() + head.size() + length.size() + after_length.size() + body.size());
  for (const std::string_view part :
       std::array<std::string_view, 4>{head, length, after_length, body}) {
    answer.insert(answer.end(), part.begin(), part.end());
  }
}

AnswerFrame read_frame(Fields& text) {
  return {.head = text["head"].text(), .after_length = text["afterLength"].text()};
}

}  // namespace tsvmm
