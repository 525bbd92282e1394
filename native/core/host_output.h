#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/unique_fd.h"

namespace tsvmm {

/// Writes to a descriptor that other processes may share (a terminal, a pipe, a socket, a file)
/// without blocking and without touching the flags that they share with us.
class HostOutput {
 public:
  /// Gets the errno of each write to a file or device of which something is lost: its disk is full
  /// or fails. Not called for a pipe, socket or terminal, whose reader has gone. On the thread that
  /// writes.
  using Lost = std::function<void(int error)>;

  /// `fd` stays the caller's. Throws Error.
  explicit HostOutput(int fd, Lost lost = {});

  /// How many bytes were taken; less than all of them only when the reader is slow, and then fd()
  /// becomes writable later. What can never be written (closed pipe, full disk) counts as taken and
  /// is lost.
  size_t write(std::span<const uint8_t> bytes) noexcept;
  /// For waiting.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  enum class Way { kPlain, kSocket, kPolled };

  [[nodiscard]] ssize_t write_some(std::span<const uint8_t> bytes) const noexcept;

  void lose(int error) const noexcept;

  UniqueFd fd_;
  Lost lost_;
  Way way_ = Way::kPlain;
  size_t chunk_ = 0;  ///< kPolled: what fits for certain where poll says that something does
};

}  // namespace tsvmm
