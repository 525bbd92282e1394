#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/event_loop.h"
#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// Serves a queue whose requests are answered at once, on a loop shared with other devices: a
/// bounded number at each turn, so that a guest that keeps ringing cannot starve the others.
class QueueServer {
 public:
  /// Answers one chain and returns how many bytes it wrote; nullopt if the device cannot go on,
  /// after it has told the host why. Runs on the loop's thread.
  using Handler = std::function<std::optional<uint32_t>(const DescriptorChain&)>;
  /// What a handler returns for a chain that it cannot answer yet: it gets it again when the
  /// doorbell is next signalled, by what makes it possible.
  static constexpr uint32_t kLater = UINT32_MAX;

  /// Starts serving. `budget` is the number of chains at a turn. Throws Error.
  QueueServer(EventLoop& loop, const Activation& activation, const VirtqueueSetup& setup,
              VirtioTransport& transport, int budget, Handler handler);
  /// Afterwards the handler does not run any more. The loop must be running or stopped, not paused.
  ~QueueServer();
  QueueServer(const QueueServer&) = delete;
  QueueServer& operator=(const QueueServer&) = delete;

 private:
  /// Why a turn ended.
  enum class Turn { kIdle, kMore, kFailed };

  void serve() noexcept;
  [[nodiscard]] Turn take_turn() noexcept;

  EventLoop& loop_;
  VirtioTransport& transport_;
  const EventFd& doorbell_;
  VirtqueueInterrupt& interrupt_;
  const int budget_;
  const Handler handler_;
  SplitQueue queue_;
};

}  // namespace tsvmm
