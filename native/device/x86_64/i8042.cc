#include "device/x86_64/i8042.h"

namespace tsvmm {
namespace {

constexpr uint64_t kSystemControl = 0;  // port 0x61
constexpr uint64_t kCommand = 3;        // port 0x64
constexpr uint8_t kPulseReset = 0xFE;
constexpr uint8_t kTimer2Output = 0x20;

}  // namespace

I8042::I8042(std::function<void()> reset) : ByteDevice(kSize), reset_(std::move(reset)) {}

uint8_t I8042::read_register(uint64_t offset) {
  switch (offset) {
    case kSystemControl:
      return kTimer2Output;
    case kCommand:
      return 0;  // status: both buffers empty, so that a driver's reset command is not delayed
    default:
      return 0xFF;
  }
}

void I8042::write_register(uint64_t offset, uint8_t value) {
  if (offset == kCommand && value == kPulseReset) reset_();
}

}  // namespace tsvmm
