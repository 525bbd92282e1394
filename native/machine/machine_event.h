#pragma once

#include <cstdint>
#include <vector>

#include "device/event_report.h"

namespace tsvmm {

/// As src/boundary/machineEvents.ts has it, in the encoding of core/cbor_reader.h.
[[nodiscard]] std::vector<uint8_t> encode(const MachineEvent& event);

/// Takes events from any of the machine's threads. Must not block: a guest decides how many come.
class MachineEventSink {
 public:
  virtual ~MachineEventSink() = default;
  virtual void emit(MachineEvent event) noexcept = 0;
};

}  // namespace tsvmm
