#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/unique_fd.h"

namespace tsvmm {

/// What a descriptor is watched for, or was found to be: some of io's values.
using IoEvents = uint32_t;

namespace io {
inline constexpr IoEvents kReadable = 1U << 0;
inline constexpr IoEvents kWritable = 1U << 1;
inline constexpr IoEvents kPeerClosed = 1U << 2;  ///< of a stream: its peer sends nothing more
// Told without being watched for.
inline constexpr IoEvents kHangUp = 1U << 3;
inline constexpr IoEvents kError = 1U << 4;
// How to watch.
inline constexpr IoEvents kEdge = 1U << 5;  ///< told when it changes, not as long as it lasts
inline constexpr IoEvents kOnce = 1U << 6;  ///< told once, until modify()
}  // namespace io

/// The host's way to wait for many descriptors at once, each with a tag of its user's. Any thread,
/// also while another is in wait(). A folder for each kind of host has it.
class Poller {
 public:
  struct Event {
    uint64_t tag;
    IoEvents events;
  };
  /// The most that wait() finds at once.
  static constexpr size_t kMaxEvents = 64;

  /// Throws Error.
  Poller();

  /// Watches `fd`, which is not owned. 0, or the errno: EPERM for what is always ready, such as a
  /// regular file.
  [[nodiscard]] int add(int fd, IoEvents events, uint64_t tag) noexcept;
  /// Changes what is waited for; events that are pending are reported again. 0 waits for nothing.
  void modify(int fd, IoEvents events, uint64_t tag) noexcept;
  /// Before the descriptor is closed.
  void remove(int fd) noexcept;

  /// Waits for events.
  [[nodiscard]] std::span<const Event> wait(std::span<Event, kMaxEvents> into) noexcept;
  /// What there is now.
  [[nodiscard]] std::span<const Event> look(std::span<Event, kMaxEvents> into) noexcept;

  /// Readable while wait() would find something, so that a poller can be watched by another.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  [[nodiscard]] std::span<const Event> collect(std::span<Event, kMaxEvents> into,
                                               int milliseconds) noexcept;

  UniqueFd fd_;
};

}  // namespace tsvmm
