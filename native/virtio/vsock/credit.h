#pragma once

#include <cstdint>

/// Flow control of a stream, one object for each direction (virtio 1.2 §5.10.6.3). All counts are
/// free-running 32-bit ones.
namespace tsvmm::vsock {

/// What the guest has room for, by the numbers that it sends, which may be any.
class PeerCredit {
 public:
  void update(uint32_t buf_alloc, uint32_t fwd_cnt) noexcept {
    allocation_ = buf_alloc;
    forwarded_ = fwd_cnt;
  }
  void sent(uint32_t bytes) noexcept { sent_ += bytes; }
  /// Bytes that may be sent now.
  [[nodiscard]] uint32_t available() const noexcept {
    const uint32_t in_flight = sent_ - forwarded_;
    return in_flight >= allocation_ ? 0 : allocation_ - in_flight;
  }

 private:
  uint32_t allocation_ = 0;
  uint32_t forwarded_ = 0;
  uint32_t sent_ = 0;
};

/// What we have room for.
class OwnCredit {
 public:
  explicit OwnCredit(uint32_t allocation) : allocation_(allocation) {}

  /// Takes account of bytes from the guest; false if that is more than it was allowed.
  [[nodiscard]] bool receive(uint32_t bytes) noexcept {
    if (bytes > allocation_ - (received_ - forwarded_)) return false;
    received_ += bytes;
    return true;
  }
  /// The host has taken bytes: there is room again.
  void forward(uint32_t bytes) noexcept { forwarded_ += bytes; }
  /// The counter to put into a packet's header; the guest knows it from then on.
  [[nodiscard]] uint32_t tell() noexcept { return told_ = forwarded_; }
  /// True if the guest should be told although there is no other packet to tell it with: half of
  /// the room is free without its knowledge. A guest that waits for room therefore always gets
  /// some.
  [[nodiscard]] bool update_due() const noexcept { return forwarded_ - told_ >= allocation_ / 2; }
  [[nodiscard]] uint32_t allocation() const noexcept { return allocation_; }
  [[nodiscard]] uint32_t forwarded() const noexcept { return forwarded_; }

 private:
  uint32_t allocation_;
  uint32_t received_ = 0;
  uint32_t forwarded_ = 0;
  uint32_t told_ = 0;
};

}  // namespace tsvmm::vsock
