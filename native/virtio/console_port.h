#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/event_loop.h"
#include "device/char_backend.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// How far a console has come besides its queues.
struct ConsoleProgress {
  /// Bytes that the backend has taken of the next chain to transmit, which stays in its queue until
  /// it has all of them.
  uint64_t sent = 0;
  /// How often it is still to be said, when the guest writes, that the size is new: Linux looks at
  /// it only when told, and forgets what it is told while it still sets the console up.
  uint8_t size_announcements = 0;
};

/// The two queues of a console while it is active (virtio 1.2 §5.3.2).
struct ConsoleQueues {
  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;

  struct Side {
    Side(const Activation& activation, const VirtqueueSetup& setup)
        : queue(activation.memory, setup, activation.features),
          doorbell(*setup.doorbell),
          interrupt(*setup.interrupt) {}

    SplitQueue queue;
    const EventFd& doorbell;
    VirtqueueInterrupt& interrupt;
  };

  /// `going_on`: what the loop's thread changes while it serves them. Throws Error.
  ConsoleQueues(const Activation& activation, ConsoleProgress& going_on);

  std::optional<Side> receive;
  std::optional<Side> transmit;
  ConsoleProgress& progress;
  bool output_blocked = false;  ///< the backend takes nothing for now
  bool failed = false;
  uint64_t next_announcement_ns = 0;
};

/// Carries bytes between a console's queues and its host end. Lives on the loop's thread.
class ConsolePort final : public CharClient {
 public:
  /// Takes a terminal's size; false if it had that already.
  using TakeSize = std::function<bool(uint16_t columns, uint16_t rows)>;

  ConsolePort(CharBackend& backend, EventLoop& loop, TakeSize take_size)
      : backend_(backend), loop_(loop), take_size_(std::move(take_size)) {}

  void start(std::shared_ptr<ConsoleQueues> queues, VirtioTransport& transport) noexcept;
  void stop() noexcept { queues_.reset(); }

  void receive_rung() noexcept;
  void transmit_rung() noexcept;

  /// Bytes to and from the guest so far. Any thread.
  [[nodiscard]] uint64_t received() const noexcept { return received_; }
  [[nodiscard]] uint64_t sent() const noexcept { return sent_; }

  // CharClient.
  size_t input_room() override;
  void input(std::span<const uint8_t> bytes) override;
  void output_ready() override;
  void resized(uint16_t columns, uint16_t rows) override;

 private:
  [[nodiscard]] bool take(ConsoleQueues::Side& side, DescriptorChain& chain) noexcept;
  void transmit() noexcept;
  void announce_size() noexcept;
  [[nodiscard]] bool send(const DescriptorChain& chain, size_t& budget) noexcept;
  void fail(const char* reason) noexcept;

  CharBackend& backend_;
  EventLoop& loop_;
  const TakeSize take_size_;
  VirtioTransport* transport_ = nullptr;
  std::shared_ptr<ConsoleQueues> queues_;
  std::atomic<uint64_t> received_ = 0;
  std::atomic<uint64_t> sent_ = 0;
};

}  // namespace tsvmm
