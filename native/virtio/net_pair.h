#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// How far the server of a pair has come in its rings.
struct NetPairState {
  SplitQueueState receive;
  SplitQueueState transmit;
};

/// What serving one pair of a network device's queues needs.
struct NetPairSetup {
  uint16_t index = 0;
  const GuestMemory& memory;
  uint64_t features = 0;                     ///< negotiated
  const VirtqueueSetup* receive = nullptr;   ///< nullptr if the driver does not use it
  const VirtqueueSetup* transmit = nullptr;  ///< nullptr if the driver does not use it
  VirtioTransport& transport;
  NetPairState state;  ///< where to go on: a driver that switches a pair off and on keeps its rings
};

/// Moves frames between a pair of queues and the host as long as it lives: a thread here or the
/// kernel (vhost). When it goes nothing is in flight and guest memory is not touched any more.
class NetPair {
 public:
  virtual ~NetPair() = default;
  /// Holds what the kernel does, with nothing in flight; what is done on a loop of the device's
  /// stands still already. Throws Error.
  virtual void pause() = 0;
  /// Also after a pause() that threw, or without one.
  virtual void resume() noexcept = 0;
  /// Ends the service and tells how far it has come. Only the end comes after it. Not on the pair's
  /// own thread.
  [[nodiscard]] virtual NetPairState stop() noexcept = 0;
};

/// Starts to serve a pair; nullptr if the device is to do that itself. Throws Error.
using MakeNetPair = std::function<std::unique_ptr<NetPair>(const NetPairSetup& setup)>;

}  // namespace tsvmm
