#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "virtio/virtio_device.h"

namespace tsvmm {

/// What serving one pair of a network device's queues needs.
struct NetPairSetup {
  uint16_t index = 0;
  const GuestMemory& memory;
  uint64_t features = 0;                     ///< negotiated
  const VirtqueueSetup* receive = nullptr;   ///< nullptr if the driver does not use it
  const VirtqueueSetup* transmit = nullptr;  ///< nullptr if the driver does not use it
  VirtioTransport& transport;
};

/// Moves frames between a pair of queues and the host as long as it lives: a thread here or the
/// kernel (vhost). When it goes nothing is in flight and guest memory is not touched any more.
class NetPair {
 public:
  virtual ~NetPair() = default;
  /// Holds what the kernel does, with nothing in flight, and leaves the queues' states as another
  /// server could go on from them; what is done on a loop of the device's stands still already.
  /// Throws Error.
  virtual void pause() = 0;
  /// Also after a pause() that threw, or without one.
  virtual void resume() noexcept = 0;
  /// Ends the service, and leaves the queues' states likewise: a driver that switches a pair off
  /// and on keeps its rings. Only the end comes after it. Not on the pair's own thread.
  virtual void stop() noexcept = 0;
};

/// Starts to serve a pair; nullptr if the device is to do that itself. Throws Error.
using MakeNetPair = std::function<std::unique_ptr<NetPair>(const NetPairSetup& setup)>;

}  // namespace tsvmm
