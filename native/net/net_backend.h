#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace tsvmm {

/// What a network does for its guest, or may ask of it: frames whose checksum is still to be filled
/// in, and frames that are still to be cut into segments (virtio 1.2 §5.1.3).
struct NetOffloads {
  bool checksum = false;
  bool tso4 = false;
  bool tso6 = false;
  bool ecn = false;  ///< of TSO segments
  bool ufo = false;  ///< UDP fragments
  bool uso = false;  ///< UDP segments, virtio 1.3

  bool operator==(const NetOffloads&) const = default;
};

/// A frame on its way: struct virtio_net_hdr_v1, 12 bytes, little-endian, and then Ethernet from
/// the destination address on, without the checksum at its end.
struct NetFrame {
  /// Sent: header and frame. Received: room for both. Guest memory, most of the time: its bytes may
  /// change at any moment.
  std::span<const iovec> buffers;
  /// Bytes sent or received, header included, or a negative errno for a frame that is lost.
  int32_t result = 0;
};

/// One queue pair's end on the host. Belongs to one thread at a time.
class NetQueue {
 public:
  /// What a network does with one more frame.
  enum class State {
    kReady,
    kWait,  ///< nothing now: fd() tells when
    kGone,  ///< nothing ever again
  };

  virtual ~NetQueue() = default;

  /// Sends frames in order and sets their results. Returns how many were taken, lost ones included:
  /// when not all of them, the rest waits until fd() polls writable.
  [[nodiscard]] virtual size_t send(std::span<NetFrame> frames) noexcept = 0;
  /// Receives at most one frame into each element, in order, and sets `count` to the number of
  /// them; the bytes of header field num_buffers are left alone. What does not fit into a frame's
  /// room is cut off: give room for kMaxFrameSize. kReady when more may be waiting.
  [[nodiscard]] virtual State receive(std::span<NetFrame> frames, size_t& count) noexcept = 0;
  /// Polls readable while frames wait, writable while frames are taken. Not registered anywhere by
  /// the queue; an error or hang-up means that receive() is to be called.
  [[nodiscard]] virtual int fd() const noexcept = 0;

  /// Header and the largest frame: a 64 KiB IP datagram behind an Ethernet header with two tags.
  static constexpr size_t kMaxFrameSize = 12 + 14 + 2 * 4 + 65535;
  /// How much a call should move where frames go both ways: what was copied is still in the
  /// processor's cache when it is copied again.
  static constexpr size_t kBatchBytes = 256 << 10;
  /// The most frames that a call of send() or receive() is given.
  static constexpr size_t kMaxBatch = 64;
};

/// The network that a virtio-net device is plugged into. Its functions run on the device's control
/// path, one at a time, and may throw Error where they are not noexcept.
class NetBackend {
 public:
  virtual ~NetBackend() = default;

  /// How many queue pairs it can have.
  [[nodiscard]] virtual uint16_t pairs() const noexcept = 0;
  /// Serves pair `index`, which has no other server at the time.
  [[nodiscard]] virtual std::unique_ptr<NetQueue> make_queue(uint16_t index) = 0;
  /// What it takes in frames that are sent, and what frames that it delivers may want.
  [[nodiscard]] virtual NetOffloads offloads() const noexcept = 0;
  /// Which of them the guest's driver takes in frames that it receives: none at first.
  virtual void set_guest_offloads(const NetOffloads& offloads) noexcept = 0;
  /// Frames are to be delivered through the first `count` pairs only, from 1 to pairs().
  virtual void set_active_pairs(uint16_t count) noexcept = 0;
};

}  // namespace tsvmm
