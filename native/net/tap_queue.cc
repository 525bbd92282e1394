#include "net/tap_queue.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "core/io_uring.h"
#include "net/io_vectors.h"

namespace tsvmm {
namespace {

template <typename Call>
int32_t result_of(const Call& call) {
  ssize_t result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : static_cast<int32_t>(result);
}

int vector_size(const NetFrame& frame) { return static_cast<int>(frame.buffers.size()); }

/// The interface went away below the descriptor (EBADFD), or goes just now (EIO, ENODEV).
bool means_gone(int32_t result) { return result == -EBADFD || result == -ENODEV || result == -EIO; }

class SyncTapQueue : public NetQueue {
 public:
  explicit SyncTapQueue(int fd) : fd_(fd) {}

  size_t send(std::span<NetFrame> frames) noexcept override {
    for (size_t i = 0; i < frames.size(); ++i) {
      NetFrame& frame = frames[i];
      frame.result =
          result_of([&] { return ::writev(fd_, frame.buffers.data(), vector_size(frame)); });
      if (frame.result == -EAGAIN) return i;
    }
    return frames.size();
  }

  State receive(std::span<NetFrame> frames, size_t& count) noexcept override {
    count = 0;
    for (NetFrame& frame : frames) {
      frame.result =
          result_of([&] { return ::readv(fd_, frame.buffers.data(), vector_size(frame)); });
      if (frame.result == -EAGAIN) return State::kWait;
      if (means_gone(frame.result)) return State::kGone;
      ++count;
    }
    return State::kReady;
  }

  [[nodiscard]] int fd() const noexcept override { return fd_; }

 protected:
  const int fd_;
};

class UringTapQueue final : public SyncTapQueue {
 public:
  UringTapQueue(int fd, std::unique_ptr<IoUring> ring)
      : SyncTapQueue(fd), ring_(std::move(ring)), registered_(ring_->register_file(fd)) {}

  size_t send(std::span<NetFrame> frames) noexcept override {
    // A lone frame is there sooner by a plain system call.
    if (!ring_ || !sends_batches_ || frames.size() < 2) return SyncTapQueue::send(frames);
    size_t done = run(frames, {.one = IORING_OP_WRITE, .many = IORING_OP_WRITEV});
    if (done < frames.size()) done += SyncTapQueue::send(frames.subspan(done));
    // A tap takes frames at once unless somebody limited its buffer (TUNSETSNDBUF). Then one may be
    // refused and the next one taken: such a tap gets its frames one by one from now on.
    if (std::ranges::any_of(frames, [](const NetFrame& f) { return f.result == -EAGAIN; })) {
      sends_batches_ = false;
    }
    return done;
  }

  State receive(std::span<NetFrame> frames, size_t& count) noexcept override {
    if (!ring_ || frames.size() < 2) return SyncTapQueue::receive(frames, count);
    const size_t done = run(frames, {.one = IORING_OP_READ, .many = IORING_OP_READV});
    return close_gaps(frames.first(done), count);
  }

 private:
  struct Operation {
    uint8_t one;
    uint8_t many;
  };

  /// Carries out an operation for each frame and returns for how many: all, unless the kernel
  /// refuses. They do not wait, so they are done when the system call returns; should the kernel
  /// have put one aside, it is waited for.
  size_t run(std::span<NetFrame> frames, Operation operation) noexcept {
    for (size_t i = 0; i < frames.size(); ++i) {
      // The ring is empty between calls and has room for the largest batch.
      fill(*ring_->next_entry(), frames[i], operation);
      frames[i].result = -EAGAIN;
    }
    size_t done = 0;
    while (done < frames.size()) {
      const bool entered = ring_->submit(static_cast<unsigned>(frames.size() - done));
      const size_t before = done;
      IoUring::Completion completion;
      while (ring_->next_completion(completion)) {
        std::bit_cast<NetFrame*>(completion.user_data)->result = completion.result;
        ++done;
      }
      if (!entered && done == before) {
        ring_.reset();  // And with it what it has not begun. Operations begin in order.
        return done;
      }
    }
    // Kernels before 6.4 do not know of taps that they need not wait.
    if (frames.front().result != -EOPNOTSUPP) return done;
    ring_.reset();
    return 0;
  }

  void fill(io_uring_sqe& entry, NetFrame& frame, Operation operation) const noexcept {
    const bool single = frame.buffers.size() == 1;
    entry.opcode = single ? operation.one : operation.many;
    entry.fd = registered_ ? 0 : fd_;
    entry.flags = registered_ ? IOSQE_FIXED_FILE : 0;
    entry.off = ~uint64_t{0};
    // O_NONBLOCK alone would let the ring wait until the tap is ready.
    entry.rw_flags = RWF_NOWAIT;
    const void* address = frame.buffers.data();
    entry.addr = std::bit_cast<uint64_t>(single ? frame.buffers[0].iov_base : address);
    entry.len = static_cast<uint32_t>(single ? frame.buffers[0].iov_len : frame.buffers.size());
    entry.user_data = std::bit_cast<uint64_t>(&frame);
  }

  /// A frame may have come between one read that found none and the next one.
  static State close_gaps(std::span<NetFrame> frames, size_t& count) noexcept {
    count = 0;
    bool waiting = false;
    bool gone = false;
    for (NetFrame& frame : frames) {
      waiting = waiting || frame.result == -EAGAIN;
      gone = gone || means_gone(frame.result);
      if (frame.result == -EAGAIN || means_gone(frame.result)) continue;
      NetFrame& place = frames[count++];
      if (&place == &frame) continue;
      if (frame.result > 0) {
        copy_vectors(frame.buffers, place.buffers, static_cast<size_t>(frame.result));
      }
      place.result = frame.result;
    }
    if (gone) return State::kGone;
    return waiting ? State::kWait : State::kReady;
  }

  std::unique_ptr<IoUring> ring_;  ///< nullptr once the kernel has refused its use
  const bool registered_;
  bool sends_batches_ = true;
};

}  // namespace

std::unique_ptr<NetQueue> make_tap_queue(int fd) {
  auto ring = IoUring::create(NetQueue::kMaxBatch);
  if (!ring) return make_sync_tap_queue(fd);
  return std::make_unique<UringTapQueue>(fd, std::move(ring));
}

std::unique_ptr<NetQueue> make_sync_tap_queue(int fd) { return std::make_unique<SyncTapQueue>(fd); }

}  // namespace tsvmm
