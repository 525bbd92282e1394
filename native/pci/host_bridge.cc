#include "pci/host_bridge.h"

namespace tsvmm {
namespace {

constexpr PciIdentity kIdentity{.vendor = 0x8086,
                                .device = 0x0d57,
                                .class_code = 0x06 /* bridge */,
                                .subclass = 0x00 /* host */};

}  // namespace

HostBridge::HostBridge() : config_(kIdentity) {}

void HostBridge::config_read(uint32_t offset, std::span<uint8_t> data) noexcept {
  config_.read(offset, data);
}

void HostBridge::config_write(uint32_t offset, std::span<const uint8_t> data) noexcept {
  config_.write(offset, data);
}

}  // namespace tsvmm
