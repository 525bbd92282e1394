#pragma once

#include <cstdint>
#include <functional>

#include "device/byte_device.h"

namespace tsvmm {

/// What is left of the keyboard controller: its reset command, and port 0x61, which Linux reads on
/// an NMI.
class I8042 final : public ByteDevice {
 public:
  static constexpr uint64_t kPort = 0x61;
  /// Ports 0x61 to 0x64.
  static constexpr uint64_t kSize = 4;

  /// `reset` runs on the vCPU thread that writes 0xFE to port 0x64.
  explicit I8042(std::function<void()> reset);

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  const std::function<void()> reset_;
};

}  // namespace tsvmm
