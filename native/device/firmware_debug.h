#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "device/byte_device.h"

namespace tsvmm {

struct FirmwareDebugState {
  std::string line;            ///< of the line in progress
  uint64_t dropped_lines = 0;  ///< not handed on because there were too many a second
};

/// The byte port where firmware writes its log. Reads give 0xE9, by which firmware finds it.
class FirmwareDebug final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;
  /// Bytes; a longer line is handed on in pieces.
  static constexpr size_t kMaxLine = 256;
  /// Lines at once and lines a second that a guest can put into the log; the rest is counted and
  /// dropped.
  static constexpr uint32_t kBurst = 1000;
  static constexpr uint32_t kLinesPerSecond = 100;

  /// A line without its line end; other control characters are replaced by '.'. Called on vCPU
  /// threads, one at a time; must not block.
  using LineSink = std::function<void(std::string_view)>;

  /// An empty `sink` drops everything.
  explicit FirmwareDebug(LineSink sink, FirmwareDebugState state = {});
  [[nodiscard]] FirmwareDebugState state() const;

  /// Any thread.
  [[nodiscard]] uint64_t dropped_lines() const;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;
  void end_line();
  bool take_token();

  const LineSink sink_;
  mutable std::mutex mutex_;
  FirmwareDebugState state_;
  uint64_t refilled_ns_ = 0;
  uint64_t tokens_ = kBurst;
};

}  // namespace tsvmm
