#include "device/firmware_debug.h"

#include <algorithm>

#include "core/monotonic.h"

namespace tsvmm {
namespace {

constexpr uint8_t kPresent = 0xE9;
constexpr uint64_t kNanosecondsPerLine = 1'000'000'000 / FirmwareDebug::kLinesPerSecond;

}  // namespace

FirmwareDebug::FirmwareDebug(LineSink sink, FirmwareDebugState state)
    : ByteDevice(kSize),
      sink_(std::move(sink)),
      state_(std::move(state)),
      refilled_ns_(monotonic_ns()) {}

FirmwareDebugState FirmwareDebug::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

uint64_t FirmwareDebug::dropped_lines() const {
  const std::lock_guard lock(mutex_);
  return state_.dropped_lines;
}

uint8_t FirmwareDebug::read_register(uint64_t /*offset*/) { return kPresent; }

void FirmwareDebug::write_register(uint64_t /*offset*/, uint8_t value) {
  if (!sink_) return;
  const std::lock_guard lock(mutex_);
  if (value == '\n') {
    end_line();
    return;
  }
  if (value == '\r') return;
  const bool printable = (value >= 0x20 && value < 0x7F) || value == '\t';
  state_.line.push_back(printable ? static_cast<char>(value) : '.');
  if (state_.line.size() >= kMaxLine) end_line();
}

void FirmwareDebug::end_line() {
  if (take_token()) {
    sink_(state_.line);
  } else {
    ++state_.dropped_lines;
  }
  state_.line.clear();
}

bool FirmwareDebug::take_token() {
  const uint64_t earned = (monotonic_ns() - refilled_ns_) / kNanosecondsPerLine;
  refilled_ns_ += earned * kNanosecondsPerLine;
  tokens_ = std::min<uint64_t>(tokens_ + earned, kBurst);
  if (tokens_ == 0) return false;
  --tokens_;
  return true;
}

}  // namespace tsvmm
