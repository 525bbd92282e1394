#include "machine/answer.h"

#include "core/error.h"

namespace tsvmm {

std::vector<uint8_t> answer(const std::function<void(CborWriter&)>& work) {
  CborWriter value;
  const auto failure = attempt([&] { work(value); });
  CborWriter whole;
  whole.map(1);
  if (failure) {
    whole.key("error").map(2).field("code", failure->code()).field("message", failure->what());
    return whole.take();
  }
  const std::vector<uint8_t> written = value.take();
  whole.key("value");
  if (written.empty()) return whole.null().take();
  return whole.item(written).take();
}

}  // namespace tsvmm
