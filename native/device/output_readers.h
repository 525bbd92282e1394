#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "device/byte_ring.h"

namespace tsvmm {

/// Read-only clients of a guest's output: stream sockets that are only written to, each as fast as
/// its peer reads. None is waited for: a peer that falls behind by more than the ring keeps misses
/// what has been overwritten, and goes on with the oldest byte.
class OutputReaders {
 public:
  /// Connections at once. More are closed as they come.
  static constexpr size_t kMaxReaders = 64;

  /// A writer appends to `ring` with `mutex` held, and calls announce() after that.
  OutputReaders(EventLoop& loop, std::mutex& mutex, const ByteRing& ring)
      : loop_(loop), mutex_(mutex), ring_(ring) {}
  /// Gives each what it has room for. Without the mutex, when nothing is appended any more.
  ~OutputReaders();
  OutputReaders(const OutputReaders&) = delete;
  OutputReaders& operator=(const OutputReaders&) = delete;

  /// Begins with the oldest byte that the ring has. On the loop's thread, without the mutex.
  void add(UniqueFd peer);
  /// For one that came too late to be added: sends what there is room for. Any thread, without the
  /// mutex.
  void show_last(UniqueFd peer) const noexcept;
  /// Has the loop send what is new: a guest's processor does not do that for so many. Any thread,
  /// with the mutex held.
  void announce() noexcept;

 private:
  struct Reader {
    UniqueFd fd;
    uint64_t position = 0;  ///< in the ring, of the next byte to send
    bool waiting = false;   ///< for room
  };

  void on_event(int fd, uint32_t events);
  void send_announced() noexcept;
  void send_new(Reader& reader) const noexcept;
  [[nodiscard]] size_t copy_next(Reader& reader, std::span<uint8_t> into) const noexcept;
  void watch(const Reader& reader) noexcept;

  EventLoop& loop_;
  std::mutex& mutex_;
  const ByteRing& ring_;
  /// By descriptor. The loop's thread alone uses them, and holds the mutex to add and remove one.
  std::unordered_map<int, Reader> readers_;
  bool announced_ = false;  ///< the loop is about to send; with the mutex held
};

}  // namespace tsvmm
