#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/event_loop.h"
#include "virtio/virtio_device.h"
#include "virtio/vsock/queue_side.h"
#include "virtio/vsock/receiver.h"
#include "virtio/vsock/stream_hub.h"
#include "virtio/vsock/transmitter.h"

namespace tsvmm::vsock {

/// An active socket device: its three queues (virtio 1.2 §5.10.2) and its streams, on an event
/// loop.
class GuestLink {
 public:
  /// Begins at once. Throws Error.
  GuestLink(const StreamHub::Options& options, Counters& counters, const Activation& activation,
            VirtioTransport& transport, EventLoop& loop);
  /// Closes all streams. The loop must be running or stopped, not paused.
  ~GuestLink();
  GuestLink(const GuestLink&) = delete;
  GuestLink& operator=(const GuestLink&) = delete;

  /// Before the loop is held, on its thread.
  void begin_pause();
  /// When it goes on, on its thread: the time since begin_pause() does not count.
  void end_pause();
  /// Closes all streams and tells the guest by an event that they are gone (§5.10.6.7).
  void reset_transport();

 private:
  void watch(int fd, IoEvents events, void (GuestLink::*handler)());
  void sockets_ready();
  void serve();
  [[nodiscard]] bool take_turns();
  void hold_is_over();
  void event_queue_rung();
  void send_event();
  void fail(const char* reason) noexcept;

  VirtioTransport& transport_;
  EventLoop& loop_;
  StreamHub hub_;
  std::optional<Receiver> receiver_;
  std::optional<Transmitter> transmitter_;
  std::optional<QueueSide> events_;
  EventFd again_;  ///< our own doorbell
  std::vector<int> watched_;
  bool event_pending_ = false;
  bool failed_ = false;
  uint64_t paused_at_ = 0;  ///< monotonic ns
};

}  // namespace tsvmm::vsock
