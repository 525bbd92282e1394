#include "device/ged.h"

namespace tsvmm {

Ged::Ged(Interrupt& interrupt, const GedState& state)
    : ByteDevice(kSize), interrupt_(interrupt), pending_(state.pending) {}

void Ged::notify(uint8_t bits) noexcept {
  pending_.fetch_or(bits);
  interrupt_.trigger();
}

uint8_t Ged::read_register(uint64_t /*offset*/) { return pending_.exchange(0); }

void Ged::write_register(uint64_t /*offset*/, uint8_t /*value*/) {}

}  // namespace tsvmm
