#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "device/byte_ring.h"

namespace tsvmm {

/// Those who are shown what a guest writes without having a part in it: stream sockets that are
/// only written to, each as fast as its peer reads. Nobody waits for one: a peer that falls behind
/// by more than the ring keeps misses what is gone, and goes on with the oldest byte.
class OutputReaders {
 public:
  /// Connections at once. More are closed as they come.
  static constexpr size_t kMaxReaders = 64;

  /// `mutex` is held by whoever appends to `ring`, and calls flush() after that.
  OutputReaders(EventLoop& loop, std::mutex& mutex, const ByteRing& ring)
      : loop_(loop), mutex_(mutex), ring_(ring) {}
  /// Gives each what it has room for. Without the mutex.
  ~OutputReaders();
  OutputReaders(const OutputReaders&) = delete;
  OutputReaders& operator=(const OutputReaders&) = delete;

  /// Begins with the oldest byte that the ring has. With the mutex held; on the loop's thread, or
  /// when it has nothing to do with this object any more.
  void add(UniqueFd peer);
  /// Sends what is new. Any thread, with the mutex held.
  void flush() noexcept;

 private:
  struct Reader {
    UniqueFd fd;
    uint64_t position = 0;  ///< in the ring, of the next byte to send
    bool waiting = false;   ///< for room
  };

  void on_event(int fd, uint32_t events);
  void send_new(Reader& reader) const noexcept;
  void watch(const Reader& reader) noexcept;

  EventLoop& loop_;
  std::mutex& mutex_;
  const ByteRing& ring_;
  std::unordered_map<int, Reader> readers_;  ///< by descriptor; changed on the loop's thread only
};

}  // namespace tsvmm
