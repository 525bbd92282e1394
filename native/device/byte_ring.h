#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace tsvmm {

/// The last `capacity` bytes of a stream, with a reader's position in it. Others keep positions of
/// their own. Allocates on the first byte; bytes for which there is no memory are lost. Not
/// thread-safe.
class ByteRing {
 public:
  explicit ByteRing(size_t capacity) : capacity_(capacity) {}

  /// Appends; the oldest bytes give way. A reader that falls behind so loses what it had not read.
  void append(std::span<const uint8_t> bytes);
  /// How many bytes can be appended before the reader loses any.
  [[nodiscard]] size_t room() const { return capacity_ - unread(); }

  [[nodiscard]] size_t unread() const { return static_cast<size_t>(end_ - reader_); }
  /// The first contiguous piece of what is unread.
  [[nodiscard]] std::span<const uint8_t> front() const { return at(reader_); }
  /// Moves the reader on by `count` (at most unread()).
  void consume(size_t count) { reader_ += count; }
  /// Moves the reader back to the oldest byte kept.
  void rewind() { reader_ = oldest(); }

  /// The position of the oldest byte kept.
  [[nodiscard]] uint64_t oldest() const { return end_ < capacity_ ? 0 : end_ - capacity_; }
  /// The position behind the last byte.
  [[nodiscard]] uint64_t end() const { return end_; }
  /// The first contiguous piece from a position on, which is from oldest() to behind the last byte;
  /// empty there.
  [[nodiscard]] std::span<const uint8_t> at(uint64_t position) const;

 private:
  const size_t capacity_;
  std::unique_ptr<uint8_t[]> bytes_;
  uint64_t end_ = 0;     ///< stream position after the last byte
  uint64_t reader_ = 0;  ///< stream position of the next byte to read
};

}  // namespace tsvmm
