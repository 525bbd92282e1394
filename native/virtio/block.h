#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/rate_limiter.h"
#include "disk/disk_image.h"
#include "virtio/block_counters.h"
#include "virtio/block_errors.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

class BlockQueue;

/// A virtio block device (virtio 1.2 §5.2) on a disk image of any format.
///
/// Each queue has a thread of its own, `<id>_q<n>`, made at the first activation together with its
/// I/O ring: a disk that the guest never uses costs neither.
class VirtioBlock : public VirtioDevice {
 public:
  static constexpr size_t kSerialSize = 20;

  struct Options {
    std::string id;
    bool read_only = false;
    uint16_t num_queues = 1;
    uint16_t queue_size = 128;  ///< a power of two from 4 to 32768
    std::string serial;         ///< at most 20 bytes
    /// The image's format was guessed, and what the guest writes must not change what it looks
    /// like: not to the first sector, no VHD footer to the last.
    bool protect_sector0 = false;
    bool sparse = true;                         ///< discarding is offered if the image can do it
    std::vector<std::vector<int>> queue_cpus;   ///< host CPUs of each queue's thread; empty: any
    std::shared_ptr<RateLimiter> rate_limiter;  ///< may be shared with other devices; nullptr: none
    int patience_ms = 10'000;  ///< after that time without an answer the disk counts as hung
  };

  /// Throws Error if the options make no sense.
  VirtioBlock(std::unique_ptr<DiskImage> image, Options options);
  ~VirtioBlock() override;

  [[nodiscard]] VirtioType type() const noexcept override { return VirtioType::kBlock; }
  [[nodiscard]] uint64_t features() const noexcept override { return features_; }
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void write_config(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  void reset() noexcept override;
  void pause() override;
  void resume() override;
  [[nodiscard]] std::vector<Counter> counters() const override;

  /// Gives the image another size, a multiple of 512 bytes, and tells the driver. Any thread, with
  /// the machine running or paused. Throws Error, also if the image's format cannot do it.
  void resize(uint64_t bytes);

 private:
  EventLoop& loop_of(uint16_t queue);
  /// All queues stand still afterwards. Throws Error if the disk does not answer.
  void hold_queues();
  void release_queues() noexcept;

  const Options options_;
  const std::unique_ptr<DiskImage> image_;
  const uint64_t features_;
  BlockErrors errors_;
  std::atomic<bool> writeback_ = true;
  std::mutex mutex_;     ///< of what follows
  bool paused_ = false;  ///< together with the machine
  bool told_engine_ = false;
  std::vector<std::unique_ptr<BlockCounters>> counters_;  ///< by queue
  std::vector<std::unique_ptr<EventLoop>> loops_;         ///< by queue, made when first needed
  std::vector<std::unique_ptr<BlockQueue>> queues_;       ///< the enabled ones, while active
};

}  // namespace tsvmm
