#pragma once

#include <cstdint>

#include "core/unique_fd.h"

namespace tsvmm {

/// A non-blocking eventfd counter: a doorbell or an interrupt line.
class EventFd {
 public:
  /// Throws Error when descriptors run out.
  EventFd();

  /// Adds one. Never blocks: a full counter already means "signalled".
  void signal() const noexcept;
  /// Takes the count; 0 if it was not signalled.
  [[nodiscard]] uint64_t consume() const noexcept;
  /// Whether consume() would find something.
  [[nodiscard]] bool signalled() const noexcept;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

}  // namespace tsvmm
