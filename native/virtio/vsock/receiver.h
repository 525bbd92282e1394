#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "virtio/vsock/queue_side.h"
#include "virtio/vsock/stream_hub.h"

namespace tsvmm::vsock {

/// Puts what the streams have for the guest into its receive buffers (virtio 1.2 §5.10.6): the
/// streams take turns, and one readv fills several buffers, each behind the place of its header.
class Receiver {
 public:
  /// Throws Error.
  Receiver(const Activation& activation, const VirtqueueSetup& setup, StreamHub& hub,
           Counters& counters);

  /// Moves a bounded number of bytes. kIdle also if the guest has no buffers; it will ring then.
  [[nodiscard]] Turn turn();

  [[nodiscard]] const EventFd& doorbell() const noexcept { return side_.doorbell; }
  [[nodiscard]] const char* error() const noexcept { return error_; }

 private:
  /// A receive buffer that was taken: where its header goes, and how much data.
  struct Slot {
    uint16_t head;
    uint32_t first_header_piece;
    uint32_t header_pieces;
    uint64_t room;
  };

  [[nodiscard]] bool take_slot(uint64_t wanted);
  void clear_slots() noexcept;
  [[nodiscard]] bool serve(Stream& stream);
  [[nodiscard]] bool send_data(Stream& stream);
  void fill_slots(Stream& stream, uint64_t bytes);
  void finish_slot(const Slot& slot, const Header& header) noexcept;

  StreamHub& hub_;
  Counters& counters_;
  QueueSide side_;
  std::vector<Slot> slots_;
  std::vector<iovec> header_pieces_;
  std::vector<iovec> data_pieces_;
  uint64_t moved_ = 0;    ///< bytes in this turn
  bool starved_ = false;  ///< the guest has no buffers for us, and will ring
  const char* error_ = nullptr;
};

}  // namespace tsvmm::vsock
