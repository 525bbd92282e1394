#pragma once

#include <cstdint>

/// Numbers of the virtio PCI transport (virtio 1.2 §4.1) and where this implementation puts its
/// structures.
namespace tsvmm::virtio_pci {

inline constexpr uint16_t kVendorId = 0x1af4;
inline constexpr uint16_t kDeviceIdBase = 0x1040;

// BAR 0.
inline constexpr uint64_t kBarSize = 0x80000;
inline constexpr uint32_t kCommonOffset = 0x0;
inline constexpr uint32_t kIsrOffset = 0x2000;
inline constexpr uint32_t kDeviceOffset = 0x4000;
inline constexpr uint32_t kNotifyOffset = 0x6000;
inline constexpr uint32_t kMsixTableOffset = 0x8000;
inline constexpr uint32_t kMsixPendingOffset = 0x48000;
/// Bytes between the notify addresses of two queues.
inline constexpr uint32_t kNotifyMultiplier = 4;

// Capability ids (PCI) and types (virtio 1.2 §4.1.4).
inline constexpr uint8_t kCapabilityVendor = 0x09;
inline constexpr uint8_t kCapabilityMsix = 0x11;
inline constexpr uint8_t kCapCommon = 1;
inline constexpr uint8_t kCapNotify = 2;
inline constexpr uint8_t kCapIsr = 3;
inline constexpr uint8_t kCapDevice = 4;
inline constexpr uint8_t kCapPciConfig = 5;

// struct virtio_pci_cap.
inline constexpr uint32_t kCapabilityBar = 4;
inline constexpr uint32_t kCapabilityOffset = 8;
inline constexpr uint32_t kCapabilityLength = 12;
inline constexpr uint32_t kCapabilitySize = 16;

// MSI-X Message Control (PCI 3.0 §6.8.2.3).
inline constexpr uint16_t kMsixEnable = 1 << 15;
inline constexpr uint16_t kMsixFunctionMask = 1 << 14;

// ISR status (virtio 1.2 §4.1.4.5).
inline constexpr uint8_t kIsrQueue = 1;
inline constexpr uint8_t kIsrConfig = 2;

}  // namespace tsvmm::virtio_pci
