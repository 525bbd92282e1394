#pragma once

#include <cstdint>
#include <span>

#include "memory/guest_memory.h"

namespace tsvmm {

/// Where an x86 guest's port and memory-mapped accesses go. Called on vCPU threads.
class AccessHandler {
 public:
  virtual ~AccessHandler() = default;
  virtual void port_read(uint16_t port, std::span<uint8_t> data) = 0;
  virtual void port_write(uint16_t port, std::span<const uint8_t> data) = 0;
  virtual void mmio_read(GuestAddress address, std::span<uint8_t> data) = 0;
  virtual void mmio_write(GuestAddress address, std::span<const uint8_t> data) = 0;
  /// A vCPU ended a level-triggered interrupt of this vector that came from an I/O APIC pin.
  virtual void end_of_interrupt(uint8_t vector) = 0;
};

}  // namespace tsvmm
