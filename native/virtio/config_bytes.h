#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tsvmm {

/// Answers a read of the device configuration with the bytes of `config`, which are all of it:
/// VirtioDevice::read_config.
template <typename Config>
void copy_config(const Config& config, uint32_t offset, std::span<uint8_t> data) noexcept {
  static_assert(std::is_trivially_copyable_v<Config>);
  std::memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config) + offset, data.size());
}

}  // namespace tsvmm
