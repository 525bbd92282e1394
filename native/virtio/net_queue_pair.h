#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/adaptive_poll.h"
#include "core/event_loop.h"
#include "core/rate_limiter.h"
#include "core/timer.h"
#include "net/net_backend.h"
#include "virtio/net_counters.h"
#include "virtio/net_pair.h"
#include "virtio/net_receiver.h"
#include "virtio/net_transmitter.h"

namespace tsvmm {

/// Serves a pair of network queues on an event loop of its own.
class NetQueuePair final : public NetPair {
 public:
  /// What a pair works with besides its queues; outlives it.
  struct Context {
    EventLoop& loop;
    RateLimiter* receive_limiter = nullptr;   ///< or none
    RateLimiter* transmit_limiter = nullptr;  ///< or none
    NetCounters& counters;
    std::function<void()> network_gone;  ///< called once, on the loop's thread
  };

  /// Throws Error; nothing runs then.
  NetQueuePair(const NetPairSetup& setup, std::unique_ptr<NetQueue> network, Context context);
  /// With the loop running or stopped, not paused.
  ~NetQueuePair() override;

  void pause() override;
  void resume() noexcept override;
  void stop() noexcept override;

 private:
  void add_watches();
  void remove_watches() noexcept;
  void network_ready(IoEvents events) noexcept;
  void work() noexcept;
  [[nodiscard]] bool transmit() noexcept;
  [[nodiscard]] bool receive() noexcept;
  [[nodiscard]] bool poll() noexcept;
  [[nodiscard]] bool sleep() noexcept;
  void watch_network(IoEvents wanted) noexcept;
  void lose_network() noexcept;
  void fail(const char* reason) noexcept;

  VirtioTransport& transport_;
  Context context_;
  const std::unique_ptr<NetQueue> network_;
  const EventFd* receive_doorbell_ = nullptr;
  const EventFd* transmit_doorbell_ = nullptr;
  std::optional<NetReceiver> receiver_;
  std::optional<NetTransmitter> transmitter_;
  std::optional<Timer> timer_;                                       ///< if there are limiters
  NetTransmitter::Turn transmitted_ = NetTransmitter::Turn::kEmpty;  ///< how the last one ended
  NetReceiver::Turn received_ = NetReceiver::Turn::kEmpty;           ///< how the last one ended
  AdaptivePoll poll_;
  IoEvents watched_ = 0;  ///< events of the network's descriptor
  bool watching_network_ = false;
  bool stopped_ = false;  ///< the driver broke a rule
  bool paused_ = false;
};

}  // namespace tsvmm
