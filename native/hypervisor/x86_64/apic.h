#pragma once

#include <cstdint>

namespace tsvmm {

/// Where a processor finds its local APIC after power-on, and where stores are MSIs (SDM vol. 3
/// §11.4.1, §11.11.1).
inline constexpr uint64_t kLocalApicAddress = 0xfee00000;
/// The first address behind those that are MSIs.
inline constexpr uint64_t kMsiEnd = 0xfef00000;

/// The highest APIC id that an 8-bit destination can name; 255 is the broadcast.
inline constexpr uint32_t kHighestXapicId = 254;

/// Pins of the I/O APIC, and wired interrupts of the hypervisor.
inline constexpr unsigned kIoApicPins = 24;

}  // namespace tsvmm
