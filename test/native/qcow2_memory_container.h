#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "disk/container.h"

namespace tsvmm::qcow2_test {

/// A file in memory that remembers in what order it was written, so that a host's crash can be
/// played at any point.
class MemoryContainer final : public Container {
 public:
  /// A write, or with no bytes a sync.
  struct Event {
    uint64_t offset = 0;
    std::vector<uint8_t> bytes;
  };

  /// `left`: where the bytes go at the end.
  MemoryContainer(std::vector<uint8_t> bytes, uint64_t seed, std::vector<uint8_t>* left = nullptr)
      : bytes_(std::move(bytes)), random_(seed), left_(left) {}
  ~MemoryContainer() override {
    if (left_ != nullptr) *left_ = std::move(bytes_);
  }

  uint64_t size() const noexcept override { return bytes_.size(); }
  DiskLimits limits() const noexcept override { return {}; }
  bool grows() const noexcept override { return true; }
  int read(uint64_t offset, std::span<uint8_t> bytes) noexcept override {
    const std::lock_guard guard(lock_);
    const size_t there =
        offset < bytes_.size() ? std::min<size_t>(bytes.size(), bytes_.size() - offset) : 0;
    std::memset(bytes.data(), 0, bytes.size());
    if (there != 0) std::memcpy(bytes.data(), &bytes_[offset], there);
    return 0;
  }
  int write(uint64_t offset, std::span<iovec> buffers) noexcept override {
    if (fails_after_ != 0 && --fails_after_ == 0) {
      fails_after_ = 1;
      return EIO;
    }
    const std::lock_guard guard(lock_);
    Event event{offset, {}};
    for (const iovec& buffer : buffers) {
      const auto* from = static_cast<const uint8_t*>(buffer.iov_base);
      event.bytes.insert(event.bytes.end(), from, from + buffer.iov_len);
    }
    if (offset + event.bytes.size() > bytes_.size()) return EFBIG;
    std::memcpy(&bytes_[offset], event.bytes.data(), event.bytes.size());
    log_.push_back(std::move(event));
    return 0;
  }
  int sync() noexcept override {
    const std::lock_guard guard(lock_);
    log_.push_back({});
    return 0;
  }
  int grow(uint64_t bytes) noexcept override {
    const std::lock_guard guard(lock_);
    if (bytes > bytes_.size()) bytes_.resize(bytes);
    return 0;
  }
  int truncate(uint64_t bytes) noexcept override {
    const std::lock_guard guard(lock_);
    if (bytes < bytes_.size()) bytes_.resize(bytes);
    return 0;
  }
  void discard(uint64_t offset, uint64_t length) noexcept override {
    // Whatever it holds from now on, nobody may care: not even zeros.
    std::vector<uint8_t> garbage(length, 0xdd);
    iovec buffer{garbage.data(), length};
    (void)write(offset, {&buffer, 1});
  }
  std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
    return std::make_unique<Queue>(*this, depth);
  }

  const std::vector<uint8_t>& bytes() const { return bytes_; }
  std::vector<Event>& log() { return log_; }
  /// The `count`th write from now on fails, and so do all after it; 0: none does.
  void fail_after(uint32_t count) { fails_after_ = count; }

 private:
  /// Ends its operations late and in any order.
  class Queue final : public DiskQueue {
   public:
    Queue(MemoryContainer& container, uint16_t depth) : container_(container), depth_(depth) {}

    void start(DiskOperation& operation) noexcept override {
      EXPECT_LT(pending_.size(), depth_);
      pending_.push_back(&operation);
    }
    void submit() noexcept override {}
    DiskOperation* next_completed() noexcept override {
      if (pending_.empty()) return nullptr;
      if (container_.coin()) return nullptr;
      return end_one();
    }
    [[nodiscard]] bool needs_submit() const noexcept override { return false; }
    void wait() noexcept override {}
    int completion_fd() const noexcept override { return -1; }

   private:
    DiskOperation* end_one() noexcept {
      const size_t at = container_.pick(pending_.size());
      DiskOperation& operation = *pending_[at];
      pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(at));
      operation.error = 0;
      switch (operation.kind) {
        case DiskOperation::Kind::kRead:
          for (const iovec& buffer : operation.buffers) {
            EXPECT_LE(operation.offset + buffer.iov_len, container_.size());
            operation.error = container_.read(
                operation.offset, {static_cast<uint8_t*>(buffer.iov_base), buffer.iov_len});
            operation.offset += buffer.iov_len;
          }
          break;
        case DiskOperation::Kind::kWrite:
          operation.error = container_.write(operation.offset, operation.buffers);
          if (operation.durable && operation.error == 0) operation.error = container_.sync();
          break;
        default:
          operation.error = container_.sync();
      }
      return &operation;
    }

    MemoryContainer& container_;
    const uint16_t depth_;
    std::vector<DiskOperation*> pending_;
  };

  bool coin() { return (random_() & 1) != 0; }
  size_t pick(size_t count) { return random_() % count; }

  std::mutex lock_;
  std::vector<uint8_t> bytes_;
  std::vector<Event> log_;
  std::mt19937_64 random_;
  uint32_t fails_after_ = 0;
  std::vector<uint8_t>* left_;
};

}  // namespace tsvmm::qcow2_test
