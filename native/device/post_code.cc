#include "device/post_code.h"

namespace tsvmm {

PostCode::PostCode(const PostCodeState& state) : ByteDevice(kSize), state_(state) {}

PostCodeState PostCode::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

uint8_t PostCode::read_register(uint64_t /*offset*/) { return state().last; }

void PostCode::write_register(uint64_t /*offset*/, uint8_t value) {
  const std::lock_guard lock(mutex_);
  state_.last = value;
  ++state_.count;
}

}  // namespace tsvmm
