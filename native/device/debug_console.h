#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "device/byte_device.h"
#include "device/byte_ring.h"
#include "device/char_backend.h"

namespace tsvmm {

struct DebugConsoleState {
  std::vector<uint8_t> held;  ///< what the host end has not taken yet
};

/// A write-only console of one byte register. Reads give 0xE9, by which the guest finds it.
///
/// It has no way to make the guest wait: what the host end does not take is held, up to kHeld
/// bytes; then the oldest are lost.
class DebugConsole final : public ByteDevice, private CharClient {
 public:
  static constexpr uint64_t kSize = 1;
  static constexpr size_t kHeld = 64 * 1024;

  explicit DebugConsole(std::unique_ptr<CharBackend> backend, const DebugConsoleState& state = {});
  ~DebugConsole() override;
  DebugConsole(const DebugConsole&) = delete;
  DebugConsole& operator=(const DebugConsole&) = delete;
  [[nodiscard]] DebugConsoleState state() const;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  size_t input_room() override;
  void input(std::span<const uint8_t> bytes) override;
  void output_ready() override;
  void flush_held();

  const std::unique_ptr<CharBackend> backend_;
  mutable std::mutex mutex_;
  ByteRing held_{kHeld};
};

}  // namespace tsvmm
