#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/unique_fd.h"
#include "net/net_backend.h"

namespace tsvmm {

/// A network behind a connected stream socket: each frame follows its length, a big-endian 32-bit
/// number. So do passt and QEMU's `-netdev stream` talk. There are no offloads: every frame leaves
/// and arrives complete.
///
/// The peer is not trusted: one that reads nothing makes frames wait, and one that breaks the
/// framing or goes away is gone for good.
class StreamBackend : public NetBackend {
 public:
  /// Throws Error if `socket` is no stream socket.
  explicit StreamBackend(UniqueFd socket);

  [[nodiscard]] uint16_t pairs() const noexcept override { return 1; }
  [[nodiscard]] std::unique_ptr<NetQueue> make_queue(uint16_t index) override;
  [[nodiscard]] NetOffloads offloads() const noexcept override { return {}; }
  void set_guest_offloads(const NetOffloads& /*offloads*/) noexcept override {}
  void set_active_pairs(uint16_t /*count*/) noexcept override {}

 private:
  class Queue;

  /// Bytes of one direction that are neither here nor there: part of a frame was sent, or frames
  /// were read that nobody has taken yet. They outlive a queue, or the next one would find the
  /// stream in the middle of a frame.
  class Bytes {
   public:
    /// Memory that is not used is not touched.
    explicit Bytes(size_t capacity)
        : storage_(std::make_unique_for_overwrite<uint8_t[]>(capacity)), capacity_(capacity) {}

    [[nodiscard]] std::span<const uint8_t> pending() const noexcept {
      return std::span(storage_.get(), capacity_).subspan(start_, end_ - start_);
    }
    /// Room behind what is pending, after moving that to the front.
    [[nodiscard]] std::span<uint8_t> room() noexcept;
    void added(size_t count) noexcept { end_ += count; }
    void taken(size_t count) noexcept { start_ += count; }
    [[nodiscard]] bool empty() const noexcept { return start_ == end_; }

   private:
    std::unique_ptr<uint8_t[]> storage_;
    size_t capacity_;
    size_t start_ = 0;
    size_t end_ = 0;
  };

  size_t send(std::span<NetFrame> frames) noexcept;
  NetQueue::State receive(std::span<NetFrame> frames, size_t& count) noexcept;

  struct Batch;
  [[nodiscard]] bool flush_unsent() noexcept;
  static void gather(std::span<NetFrame> frames, Batch& batch) noexcept;
  [[nodiscard]] size_t transmit(std::span<NetFrame> frames, Batch& batch) noexcept;
  void keep_rest(const Batch& batch, size_t skip) noexcept;
  void deliver(std::span<NetFrame> frames, size_t& count) noexcept;
  [[nodiscard]] NetQueue::State fill() noexcept;

  UniqueFd socket_;
  bool gone_ = false;
  Bytes unsent_;
  Bytes received_;
};

}  // namespace tsvmm
