#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "core/timer.h"
#include "virtio/vsock/queue_side.h"
#include "virtio/vsock/stream_hub.h"

namespace tsvmm::vsock {

/// Takes the guest's packets from the transmit queue (virtio 1.2 §5.10.6).
///
/// Consecutive data packets of a stream go to its socket by one sendmsg, straight from guest
/// memory. When the socket is full, the rest and all packets behind it stay where they are for a
/// moment, since the host's program is probably about to read, and a copy would cost more than the
/// wait. If it is not, the rest goes into the stream's backlog and the others have their turn.
class Transmitter {
 public:
  /// Throws Error.
  Transmitter(const Activation& activation, const VirtqueueSetup& setup, StreamHub& hub);

  /// Takes a bounded number of packets.
  [[nodiscard]] Turn turn();
  /// Waiting for a socket.
  [[nodiscard]] bool holding() const noexcept { return holding_; }
  /// No more waiting: keeps what the socket has not taken.
  void stop_holding();
  /// Goes off (watch for edges) when holding has lasted long enough.
  [[nodiscard]] const Timer& hold_timer() const noexcept { return hold_timer_; }

  [[nodiscard]] const EventFd& doorbell() const noexcept { return side_.doorbell; }
  [[nodiscard]] const char* error() const noexcept { return error_; }

 private:
  enum class Taken { kYes, kNotNow, kBroken };
  [[nodiscard]] Taken take(const DescriptorChain& chain);
  [[nodiscard]] Taken take_data(const DescriptorChain& chain, const Header& header);
  [[nodiscard]] bool joins_batch(const DescriptorChain& chain, const Header& header) const noexcept;
  [[nodiscard]] bool flush();
  void finish_batch();
  void give_back(uint16_t head);
  void hold() noexcept;

  StreamHub& hub_;
  QueueSide side_;
  Timer hold_timer_;
  bool holding_ = false;
  const char* error_ = nullptr;

  // The batch: packets of one stream whose data is not with the host yet.
  uint64_t stream_ = 0;
  uint32_t host_port_ = 0;
  uint32_t guest_port_ = 0;
  std::vector<iovec> pieces_;
  size_t first_piece_ = 0;  ///< the first that is not done with
  uint64_t bytes_ = 0;
  std::vector<uint16_t> heads_;  ///< of these packets, and of others that came after the first
};

}  // namespace tsvmm::vsock
