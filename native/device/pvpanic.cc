#include "device/pvpanic.h"

#include <utility>

namespace tsvmm {

Pvpanic::Pvpanic(std::function<void(uint8_t event)> tell, PvpanicState state)
    : ByteDevice(kSize), tell_(std::move(tell)), told_(state.told) {}

uint8_t Pvpanic::read_register(uint64_t /*offset*/) { return kPanicked | kCrashLoaded; }

void Pvpanic::write_register(uint64_t /*offset*/, uint8_t value) {
  for (const uint8_t event : {kPanicked, kCrashLoaded}) {
    if ((value & event) != 0 && (told_.fetch_or(event) & event) == 0) tell_(event);
  }
}

}  // namespace tsvmm
