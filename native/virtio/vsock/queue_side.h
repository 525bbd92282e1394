#pragma once

#include "virtio/queue.h"
#include "virtio/virtio_device.h"

namespace tsvmm::vsock {

/// A queue with its two signals.
struct QueueSide {
  QueueSide(const Activation& activation, const VirtqueueSetup& setup)
      : queue(activation.memory, setup, activation.features),
        doorbell(*setup.doorbell),
        interrupt(*setup.interrupt) {}

  void publish() noexcept {
    if (queue.publish()) interrupt.trigger();
  }

  SplitQueue queue;
  const EventFd& doorbell;
  VirtqueueInterrupt& interrupt;
};

/// Why a turn at a queue ended.
enum class Turn {
  kIdle,     ///< nothing to do; what changes that will be told
  kWaiting,  ///< something else has to happen first
  kMore,     ///< its bound was reached
  kBroken,   ///< the driver broke a rule
};

}  // namespace tsvmm::vsock
