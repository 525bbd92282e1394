#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "disk/sync_record.h"
#include "memory/lost_pages.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Persistent memory (virtio 1.2 §5.19): a file that the guest sees as memory in a BAR, and a queue
/// by which it asks for what it wrote to be made durable.
class VirtioPmem : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 27};

  struct Options {
    std::string id;
    uint64_t size = 0;            ///< bytes of the file to map, a multiple of 2 MiB
    bool discard_writes = false;  ///< what the guest writes stays in this process's memory
  };

  /// Maps `fd`, which is open for writing unless writes are discarded. `memory` outlives the
  /// device. Throws Error.
  VirtioPmem(UniqueFd fd, GuestMemory& memory, const Options& options);
  ~VirtioPmem() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  [[nodiscard]] DeviceMemory* device_memory() noexcept override { return device_memory_.get(); }
  [[nodiscard]] bool repair_device_memory() noexcept override;
  void device_memory_moved(std::optional<GuestAddress> address) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override { loop_.begin_pause(); }
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override {
    return loop_.wait_paused(deadline);
  }
  void resume() noexcept override { loop_.resume(); }
  [[nodiscard]] bool try_close(const Deadline& deadline) noexcept override;
  [[nodiscard]] const char* waits_for() const noexcept override {
    return "the file of the persistent memory does not answer";
  }
  [[nodiscard]] std::vector<Counter> counters() const override;

 private:
  /// The mapping, until guest memory takes it over.
  class Mapping {
   public:
    Mapping(int fd, const Options& options);
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    [[nodiscard]] uint8_t* host() const { return host_; }
    void release() noexcept { host_ = nullptr; }

   private:
    uint8_t* host_;
    const uint64_t size_;
  };

  void unmap() noexcept;
  uint32_t answer(const DescriptorChain& chain) noexcept;
  [[nodiscard]] bool flush() noexcept;
  [[nodiscard]] bool sync() noexcept;
  void on_lost_pages() noexcept;
  /// From now on flushes fail.
  void fail(const std::string& why) noexcept;

  GuestMemory& memory_;
  UniqueFd fd_;
  const bool discard_writes_;
  std::optional<Mapping> mapping_;       ///< until it is closed
  std::mutex repair_mutex_;              ///< a vCPU may want pages while the device is closed
  std::optional<LostPages> lost_pages_;  ///< of the mapping
  const std::shared_ptr<DeviceMemory> device_memory_;
  std::atomic<GuestAddress> start_ = 0;
  std::atomic<uint64_t> flushes_ = 0;
  std::atomic<uint64_t> failed_flushes_ = 0;
  std::atomic<uint64_t> flush_ns_ = 0;
  SyncRecord syncs_;
  std::atomic<bool> stopped_ = false;    ///< since it was activated
  bool watches_ = false;                 ///< lost_pages_, on the loop
  EventLoop loop_;                       ///< its own: making a file durable can take seconds
  std::unique_ptr<QueueServer> server_;  ///< while active
  LoopTeardown teardown_;
  LoopTeardown closing_;
};

}  // namespace tsvmm
