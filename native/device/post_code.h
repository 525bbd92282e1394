#pragma once

#include <cstdint>
#include <mutex>

#include "device/byte_device.h"

namespace tsvmm {

struct PostCodeState {
  uint8_t last = 0;
  uint64_t count = 0;  ///< how many codes were written
};

/// The port where a guest writes how far its boot got. Reads give the last code.
class PostCode final : public ByteDevice {
 public:
  static constexpr uint64_t kSize = 1;

  explicit PostCode(const PostCodeState& state = {});

  /// Any thread.
  [[nodiscard]] PostCodeState state() const;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  mutable std::mutex mutex_;
  PostCodeState state_;
};

}  // namespace tsvmm
