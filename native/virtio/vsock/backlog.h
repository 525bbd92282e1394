#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace tsvmm::vsock {

/// Bytes from the guest that the host's socket has not taken yet, as a ring. Memory is only held
/// while there are any.
class Backlog {
 public:
  explicit Backlog(uint32_t capacity) : capacity_(capacity) {}

  /// The caller has checked that the pieces fit into capacity() - size().
  void append(std::span<const iovec> pieces);
  /// What is there, in one or two pieces (the second one may be empty).
  [[nodiscard]] std::array<iovec, 2> front() const noexcept;
  void consume(uint32_t bytes) noexcept;

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] uint32_t size() const noexcept { return size_; }
  [[nodiscard]] uint32_t capacity() const noexcept { return capacity_; }

 private:
  const uint32_t capacity_;
  uint32_t begin_ = 0;
  uint32_t size_ = 0;
  std::unique_ptr<uint8_t[]> bytes_;
};

}  // namespace tsvmm::vsock
