#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"

namespace tsvmm {

/// Writes records into a FIFO whose readers come and go, one at a time: each begins with the start
/// of a record. What nobody has read yet stays there for the next one, and the record that a reader
/// left in the middle is there as a whole.
///
/// Where others write as well, what a reader leaves is left as it is, theirs and ours.
///
/// A reader that comes in the moment in which another leaves is one that reads beside it: who of
/// them gets what is the kernel's choice.
class RecordFifo {
 public:
  /// nullopt if `fd`, which stays the caller's, is no FIFO. It must not be open for reading, or it
  /// would be taken for a reader. Throws Error.
  static std::optional<UniqueFd> duplicate_if_fifo(int fd);
  /// Throws Error.
  explicit RecordFifo(UniqueFd fifo);
  ~RecordFifo() { loop_.stop(); }
  RecordFifo(const RecordFifo&) = delete;
  RecordFifo& operator=(const RecordFifo&) = delete;

  /// Writes a record without waiting, or the rest of the one of which the last call took a part
  /// only. Returns how many bytes there was room for: none also while there is neither a reader nor
  /// a descriptor free to keep them there for one. Any one thread. Throws Error.
  size_t write(std::span<const uint8_t> bytes);

 private:
  /// What has been taken of a record: all, but for the last one's rest that is to come.
  using Record = std::vector<uint8_t>;

  void changed();
  void settle_locked();
  void forget_read_locked(size_t left);
  void forget_given_locked();
  void take_back_locked();
  [[nodiscard]] bool ends_given_locked(std::span<const uint8_t> bytes) const;
  void push_waiting_locked();
  [[nodiscard]] bool is_waiting_locked() const;
  size_t push_locked(std::span<const uint8_t> bytes);
  [[nodiscard]] bool has_reader() const;
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] size_t unread() const;
  [[nodiscard]] size_t capacity() const;

  UniqueFd fifo_;  ///< write only, non-blocking
  std::mutex mutex_;
  std::deque<Record> records_;  ///< those that have not been read to their end
  size_t given_ = 0;            ///< bytes of them that the FIFO was given
  bool is_open_ = false;        ///< the rest of the last record is to come
  EventLoop loop_{"event-monitor"};
};

}  // namespace tsvmm
