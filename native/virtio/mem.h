#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/timer.h"
#include "memory/memory_blocks.h"
#include "virtio/loop_teardown.h"
#include "virtio/mem/plugged_blocks.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a memory device between its requests.
struct VirtioMemState {
  uint64_t requested_size = 0;     ///< bytes that the guest is asked to have
  std::vector<bool> plugged = {};  ///< by block; blocks behind the end are not
  /// The UNPLUG request that is being carried out, in blocks, and how many of them are gone.
  struct Unplugging {
    PluggedBlocks::Range range;
    size_t done;
  };
  std::optional<Unplugging> unplugging = {};
};

/// A memory device (virtio 1.2 §5.15): a region of guest memory, of which the guest plugs blocks in
/// and out until it has as much as the host requests. A reset of the device changes no block
/// (§5.15.5.2); one of the machine makes another device, which begins with none.
///
/// What is plugged in keeps its content (§5.15.6.2). So an UNPLUG request that has begun is carried
/// out to its end: while somebody waits for the device's thread it is put off, and the driver gets
/// no answer yet.
class VirtioMem : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 24};

  struct Options {
    std::string id;
    std::optional<uint16_t> node;  ///< ACPI proximity domain
  };

  /// Throws Error, ENOMEM if the host lacks the memory of what is plugged.
  VirtioMem(std::unique_ptr<MemoryBlocks> blocks, const Options& options,
            const VirtioMemState& state);
  ~VirtioMem() override;
  [[nodiscard]] VirtioMemState state() const;

  /// Requests another size, in bytes. Any thread. Throws Error, EINVAL if it is no multiple of the
  /// block size, or more than the region has.
  void resize(uint64_t size);
  /// How many bytes the guest has plugged. Any thread.
  [[nodiscard]] uint64_t plugged_size() const noexcept { return plugged_size_; }

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override { loop_.begin_pause(); }
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override {
    return loop_.wait_paused(deadline);
  }
  void resume() noexcept override { loop_.resume(); }
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] const char* waits_for() const noexcept override {
    return "the host does not come to an end with the memory that is plugged in or out";
  }
  [[nodiscard]] std::vector<Counter> counters() const override;
  /// `plugged`, in bytes.
  [[nodiscard]] std::vector<Counter> status() const override;
  /// `resize` to `size` bytes.
  [[nodiscard]] std::optional<DeviceOperation> operation(std::string_view name,
                                                         Fields& arguments) override;

 private:
  using Range = PluggedBlocks::Range;
  struct Answer {
    uint16_t type;
    uint16_t state = 0;
  };

  void adopt(const VirtioMemState& state);
  void check_size(uint64_t size) const;
  [[nodiscard]] uint32_t serve(const DescriptorChain& chain) noexcept;
  [[nodiscard]] std::optional<Answer> answer(std::span<const uint8_t> request) noexcept;
  [[nodiscard]] std::optional<Range> range_of(std::span<const uint8_t> request) const noexcept;
  [[nodiscard]] uint16_t plug(const Range& range) noexcept;
  [[nodiscard]] std::optional<Answer> unplug(const Range& range, size_t done) noexcept;
  [[nodiscard]] std::optional<Answer> unplug_all() noexcept;
  [[nodiscard]] uint16_t state_of(const Range& range) const noexcept;
  [[nodiscard]] size_t take_out(const Range& range) noexcept;
  void go_on_later() noexcept;
  void release_later() noexcept;
  [[nodiscard]] uint64_t bytes(size_t blocks) const noexcept;

  const std::unique_ptr<MemoryBlocks> blocks_;
  const std::optional<uint16_t> node_;
  std::atomic<uint64_t> requested_size_ = 0;
  std::atomic<uint64_t> plugged_size_ = 0;
  PluggedBlocks plugged_;  ///< the loop's thread changes it
  std::atomic<uint64_t> plugged_in_ = 0;
  std::atomic<uint64_t> plugged_out_ = 0;
  std::atomic<uint64_t> busy_ = 0;
  std::atomic<uint64_t> refused_ = 0;

  const MemoryBlocks::Stop is_wanted_ = [this] { return loop_.is_wanted(); };
  EventLoop loop_;                       ///< its own: huge amounts of memory take their time
  std::unique_ptr<QueueServer> server_;  ///< while active
  const EventFd* doorbell_ = nullptr;    ///< the same
  std::optional<Timer> retry_;           ///< the same
  bool release_posted_ = false;          ///< the loop's thread's, like what follows
  std::optional<VirtioMemState::Unplugging> unplugging_;
  LoopTeardown teardown_;
};

}  // namespace tsvmm
