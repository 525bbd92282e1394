#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/event_loop.h"
#include "virtio/balloon_pages.h"
#include "virtio/balloon_statistics.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a balloon, but for the statistics that it has told. Which pages are inside
/// is no part of it: guest memory tells, as they have none.
struct BalloonState {
  // Any thread's, by shared().
  uint32_t target_pages = 0;
  uint32_t actual_pages = 0;  ///< by the guest's own account
  uint32_t poison = 0;
  uint64_t inflated_pages = 0;
  uint64_t deflated_pages = 0;
  uint64_t reported_bytes = 0;
  /// The head of the one that is here; the loop's thread's while active.
  std::optional<uint16_t> statistics_buffer = {};
};

/// A traditional memory balloon (virtio 1.2 §5.5): the guest puts pages into it, whose memory goes
/// back to the host, until it has the size that the host asks for. With free page reporting it also
/// tells of pages that it does not use at the moment. Statistics of the guest are among the
/// counters; asking for those asks the guest for newer ones, and nothing else does.
class VirtioBalloon : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 5};

  struct Options {
    uint64_t size = 0;            ///< bytes that the guest is to give up
    bool deflate_on_oom = false;  ///< the guest may take pages back when it runs out of memory
    bool free_page_reporting = false;
  };

  VirtioBalloon(EventLoop& loop, const Options& options);
  ~VirtioBalloon() override;

  /// Asks for another size, in bytes. Any thread.
  void resize(uint64_t size) noexcept;
  /// How many bytes are in the balloon by the guest's own account. Any thread.
  [[nodiscard]] uint64_t actual_size() const noexcept;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void write_config(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::vector<Counter> status() const override;
  /// `resize` to `size` bytes.
  [[nodiscard]] std::optional<DeviceOperation> operation(std::string_view name,
                                                         Fields& arguments) override;

 private:
  void stop_queues() noexcept;
  void serve(const Activation& activation, uint16_t index, QueueServer::Handler handler);
  uint32_t inflate(const DescriptorChain& chain) noexcept;
  uint32_t deflate(const DescriptorChain& chain) noexcept;
  uint32_t report(const DescriptorChain& chain) noexcept;

  EventLoop& loop_;
  const bool deflate_on_oom_;
  const bool free_page_reporting_;
  BalloonState state_;
  BalloonStatistics statistics_;

  // While active.
  const GuestMemory* memory_ = nullptr;
  bool poisons_ = false;
  std::optional<BalloonPages> pages_;
  std::vector<std::unique_ptr<QueueServer>> servers_;
  LoopTeardown teardown_;
  mutable std::mutex statistics_mutex_;
  std::unique_ptr<BalloonStatisticsQueue> statistics_queue_;  ///< under statistics_mutex_
};

}  // namespace tsvmm
