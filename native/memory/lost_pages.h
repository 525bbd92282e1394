#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "core/event_fd.h"

namespace tsvmm {

/// Keeps a mapped file from ending the process where the host has nothing behind it any more: the
/// file was made shorter, or a hole in it found its file system full, and an access to such a
/// page raises SIGBUS. While there is a LostPages for a mapping, the page becomes memory of its own
/// instead, which reads as zeros, and the owner of the mapping is told.
///
/// The signal's handler is the process's, as there is no other kind. It is there only while such a
/// mapping is, answers only for addresses in one, and leaves all else to what was there before.
class LostPages {
 public:
  /// Of holes in the file, when there is no room for them.
  enum class Holes : uint8_t {
    kAtOnce,    ///< all become memory when the first does: a guest may use each of them
    kOneByOne,  ///< where others than the file's pages are mapped over holes: copies that were
                ///< written to, or what stands for memory that nobody has
  };

  /// Of [host, host + size), where `fd` is mapped from `offset` on. Throws Error.
  LostPages(uint8_t* host, uint64_t size, int fd, uint64_t offset, Holes holes);
  ~LostPages();
  LostPages(const LostPages&) = delete;
  LostPages& operator=(const LostPages&) = delete;

  /// Whether pages were replaced.
  [[nodiscard]] bool any() const noexcept;
  /// Signalled when the first is.
  [[nodiscard]] const EventFd& event() const noexcept { return event_; }

  /// Replaces all that has nothing behind it, for those whose access does not end in a signal: the
  /// hypervisor's for a guest. False if that will not help them. Any thread.
  [[nodiscard]] bool replace() noexcept;

 private:
  const EventFd event_;
  size_t slot_ = 0;  ///< what the handler knows the mapping by

  std::mutex mutex_;
  unsigned idle_calls_ = 0;  ///< calls of replace() that replaced nothing
};

}  // namespace tsvmm
