#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/event_fd.h"
#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "memory/guest_memory.h"
#include "virtio/net_pair.h"

namespace tsvmm {

/// A pair of network queues that the host's kernel serves between guest memory and a tap
/// (vhost-net): no frame, doorbell or interrupt comes by here.
class VhostNetPair final : public NetPair, private MemoryListener {
 public:
  /// `vhost` is an opened /dev/vhost-net and `tap` a tap's queue with virtio-net headers of 12
  /// bytes; both stay the caller's and outlive the pair, like `loop`, which is notified of broken
  /// rings. Throws Error.
  VhostNetPair(const NetPairSetup& setup, int vhost, int tap, EventLoop& loop);
  ~VhostNetPair() override;

  /// nullptr if the kernel cannot serve the pair: the driver does not use both queues, or there is
  /// no way for their interrupts. Otherwise like the constructor.
  static std::unique_ptr<NetPair> make(const NetPairSetup& setup, int vhost, int tap,
                                       EventLoop& loop);

  void pause() override;
  void resume() noexcept override;
  void stop() noexcept override;

 private:
  struct Ring {
    VirtqueueConfig config;
    SplitQueueState* state;
    const EventFd* doorbell;
    const EventFd* interrupt;
  };

  // The kernel's table of guest memory. Never two at a time.
  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

  void give_up() noexcept;
  void set_features(uint64_t negotiated) const;
  void set_memory() const;
  void set_ring(unsigned index, const GuestMemory& memory) const;
  void set_backend(int tap) const;
  void read_states() const noexcept;
  void control(unsigned long request, const void* argument, const char* what) const;

  const int vhost_;
  const int tap_;
  EventLoop& loop_;
  VirtioTransport& transport_;
  const GuestMemory& memory_;
  std::vector<MemoryRegion> regions_;
  std::array<Ring, 2> rings_;  ///< receive, transmit: the kernel's numbers
  EventFd broken_;             ///< signalled by the kernel
  bool held_ = false;
};

}  // namespace tsvmm
