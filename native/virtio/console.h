#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/event_loop.h"
#include "device/char_backend.h"
#include "virtio/console_port.h"
#include "virtio/loop_teardown.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a console.
struct ConsoleState {
  uint32_t size = 0;  ///< columns below, rows above: both change at once, on any thread
  std::optional<ConsoleProgress> progress = {};  ///< while active, the loop's thread's then
};

/// A virtio console (virtio 1.2 §5.3) with one port and a size.
class VirtioConsole : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 3};

  /// `loop` is the one that `backend` works on. Columns and rows may be 0 (unknown).
  VirtioConsole(std::unique_ptr<CharBackend> backend, EventLoop& loop, uint16_t columns,
                uint16_t rows);
  ~VirtioConsole() override;

  /// The terminal has another size now. Any thread.
  void resize(uint16_t columns, uint16_t rows) noexcept;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  /// `resize` to `columns` and `rows`.
  [[nodiscard]] std::optional<DeviceOperation> operation(std::string_view name,
                                                         Fields& arguments) override;

 private:
  void watch(const std::optional<ConsoleQueues::Side>& side, void (ConsolePort::*rung)());
  void unwatch(const std::optional<ConsoleQueues::Side>& side) noexcept;

  EventLoop& loop_;
  std::unique_ptr<CharBackend> backend_;
  ConsoleState state_;
  std::shared_ptr<ConsolePort> port_;
  std::shared_ptr<ConsoleQueues> queues_;  ///< while active
  LoopTeardown teardown_;
};

}  // namespace tsvmm
