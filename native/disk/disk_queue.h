#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace tsvmm {

/// One transfer between a disk and buffers, a flush, or a range to forget or to fill with zeros.
/// The owner keeps it and the buffers alive until it completes.
struct DiskOperation {
  enum class Kind : uint8_t {
    kRead,
    kWrite,
    kFlush,
    kDiscard,      ///< the range's content does not matter any more
    kWriteZeroes,  ///< the range reads as zeros from now on
  };

  Kind kind = Kind::kRead;
  bool durable = false;    ///< a write that must be on stable storage when it completes
  bool may_unmap = false;  ///< kWriteZeroes: space may be given back
  uint64_t offset = 0;     ///< bytes; advances with the transfer
  uint64_t length = 0;     ///< bytes left, the sum of the buffers if there are any; inside the disk
  std::span<iovec> buffers{};  ///< none of them empty; consumed by the transfer
  int error = 0;               ///< an errno after completion, 0 for success
};

/// The host's side of one block queue. May be made on any thread; from its first operation to its
/// destruction it belongs to one.
class DiskQueue {
 public:
  virtual ~DiskQueue() = default;

  /// Queues an operation; at most as many as the queue is deep may be on the way.
  virtual void start(DiskOperation& operation) noexcept = 0;
  /// Hands what was queued to the host, as much of it as the host takes.
  virtual void submit() noexcept = 0;
  /// One operation that has ended, or nullptr. What has ended may be a part of one whose next part
  /// is queued by then: whoever has taken all that there is looks at needs_submit().
  virtual DiskOperation* next_completed() noexcept = 0;
  /// Whether something is queued that the host was not asked to take, or may never tell of:
  /// submit() is to be called again at once. What the host has refused while other operations are
  /// on the way waits for one of these to end, which completion_fd() tells.
  [[nodiscard]] virtual bool needs_submit() const noexcept = 0;
  /// Submits, then blocks until something has ended. Only while something is on the way.
  virtual void wait() noexcept = 0;
  /// Polls readable while ended operations wait; -1 if they always have ended when submit()
  /// returns.
  [[nodiscard]] virtual int completion_fd() const noexcept = 0;
  /// Whether next_completed() is worth calling, without a system call: for who polls. An engine
  /// that cannot tell says no.
  [[nodiscard]] virtual bool completions_pending() const noexcept { return false; }
  /// For people: by what the host moves the bytes, and why not by something better.
  [[nodiscard]] virtual std::string_view engine() const noexcept { return {}; }
};

/// What may be used besides plain system calls.
struct DiskEngines {
  bool io_uring = true;
  bool linux_aio = true;
};

class RawImage;

/// `depth` is how many operations may be on the way. By the best engine that image and host allow:
/// io_uring, Linux AIO (with O_DIRECT only, as it would wait without), plain system calls, which
/// are the best for a file in memory. Operations may be anywhere in the image's file, also beyond
/// RawImage::size(). Throws Error.
std::unique_ptr<DiskQueue> make_disk_queue(const RawImage& image, uint16_t depth);

}  // namespace tsvmm
