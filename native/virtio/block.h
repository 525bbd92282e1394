#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/event_loop.h"
#include "core/rate_limiter.h"
#include "disk/disk_image.h"
#include "virtio/block_counters.h"
#include "virtio/block_errors.h"
#include "virtio/loop_teardown.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

class BlockQueue;

/// What a guest sees of a disk, beside its image.
struct BlockState {
  bool writeback = true;  ///< completed writes need not last before a flush; any thread's
};

/// A virtio block device (virtio 1.2 §5.2) on a disk image of any format.
///
/// Each queue has a thread of its own, `<id>_q<n>`, made at the first activation together with its
/// I/O ring: a disk that the guest never uses costs neither.
class VirtioBlock : public VirtioDevice {
 public:
  static constexpr VirtioType kType{
      .id = 2, .pci_class = 0x01 /* mass storage */, .pci_subclass = 0x80 /* other */};
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
  };

  /// Throws Error if the options make no sense.
  VirtioBlock(std::unique_ptr<DiskImage> image, Options options);
  ~VirtioBlock() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override { return features_; }
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void write_config(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override;
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override;
  void resume() noexcept override;
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] bool try_close(const Deadline& deadline) noexcept override;
  [[nodiscard]] const char* waits_for() const noexcept override {
    return "the disk does not answer";
  }
  [[nodiscard]] std::vector<Counter> counters() const override;
  /// `resize` to `size` bytes; exclusive.
  [[nodiscard]] std::optional<DeviceOperation> operation(std::string_view name,
                                                         Fields& arguments) override;

  /// Gives the image another size, a multiple of 512 bytes, and tells the driver. One at a time, on
  /// any thread, with the machine running or paused. Throws Error, also if the image's format
  /// cannot do it, and ETIMEDOUT at the deadline; a change of size that has begun then goes on, and
  /// the queues stand still until it has ended.
  void resize(uint64_t bytes, const Deadline& deadline);

 private:
  /// What became of a change of size, which may outlive the call that began it.
  struct Resizing {
    std::shared_ptr<EventLoop::Job> job;
    std::optional<Error> failure;
  };

  using Queues = std::vector<std::shared_ptr<BlockQueue>>;

  EventLoop& loop_of(uint16_t queue);
  void hold_queues(const Deadline& deadline);
  void begin_resizing(uint64_t bytes);
  void carry_out_resizing(uint64_t bytes, const Queues& held, Resizing& resizing) noexcept;

  const Options options_;
  std::unique_ptr<DiskImage> image_;  ///< until it is closed
  const uint64_t features_;
  BlockErrors errors_;
  BlockState state_;
  std::mutex mutex_;                    ///< of what follows
  bool paused_ = false;                 ///< together with the machine
  std::shared_ptr<Resizing> resizing_;  ///< the last one
  bool told_engine_ = false;
  std::vector<std::unique_ptr<BlockCounters>> counters_;  ///< by queue
  std::vector<std::unique_ptr<EventLoop>> loops_;         ///< by queue, made when first needed
  Queues queues_;                                         ///< the enabled ones, while active
  LoopTeardown closing_;
};

}  // namespace tsvmm
