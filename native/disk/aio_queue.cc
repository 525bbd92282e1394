#include "disk/aio_queue.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "disk/sync_io.h"

namespace tsvmm {
namespace {

constexpr size_t kEventsPerCall = 64;

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

std::unique_ptr<AioDiskQueue> AioDiskQueue::create(const RawImage& image, uint16_t depth,
                                                   const std::string& reason) {
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, depth, &context) != 0) return nullptr;
  try {
    return std::unique_ptr<AioDiskQueue>(new AioDiskQueue(image, context, depth, reason));
  } catch (...) {
    ::syscall(SYS_io_destroy, context);
    throw;
  }
}

AioDiskQueue::AioDiskQueue(const RawImage& image, aio_context_t context, uint16_t depth,
                           const std::string& reason)
    : file_(image),
      context_(context),
      engine_("Linux AIO (" + reason + ")"),
      blocks_(depth),
      completed_(depth) {
  for (iocb& block : blocks_) free_.push_back(&block);
  queued_.reserve(depth);
}

AioDiskQueue::~AioDiskQueue() { ::syscall(SYS_io_destroy, context_); }

void AioDiskQueue::start(DiskOperation& operation) noexcept {
  const bool is_read = operation.kind == DiskOperation::Kind::kRead;
  const bool transfers = is_read || operation.kind == DiskOperation::Kind::kWrite;
  const bool is_in_vain = operation.durable && file_.image().syncs().failure() != 0;
  if (!transfers || is_in_vain || operation.length == 0 || free_.empty() ||
      !is_aligned(file_, operation)) {
    return run_here(operation);
  }
  iocb* block = free_.back();
  free_.pop_back();
  *block = {};
  block->aio_data = address_of(&operation);
  block->aio_lio_opcode = is_read ? IOCB_CMD_PREADV : IOCB_CMD_PWRITEV;
  block->aio_rw_flags = operation.durable ? RWF_DSYNC : 0;
  block->aio_fildes = static_cast<uint32_t>(file_.fd());
  block->aio_buf = address_of(operation.buffers.data());
  block->aio_nbytes = std::min(operation.buffers.size(), kMaxBuffersPerCall);
  block->aio_offset = static_cast<int64_t>(operation.offset);
  block->aio_flags = IOCB_FLAG_RESFD;
  block->aio_resfd = static_cast<uint32_t>(event_.fd());
  queued_.push_back(block);
}

void AioDiskQueue::run_here(DiskOperation& operation) noexcept {
  run_synchronously(file_, operation);
  completed_.push(operation);
}

void AioDiskQueue::submit() noexcept {
  size_t done = 0;
  refused_ = false;
  while (done < queued_.size()) {
    const long taken = ::syscall(SYS_io_submit, context_, queued_.size() - done, &queued_[done]);
    if (taken > 0) {
      done += static_cast<size_t>(taken);
      in_kernel_ += static_cast<size_t>(taken);
      continue;
    }
    refused_ = taken < 0 && errno == EAGAIN && in_kernel_ != 0;
    if (refused_) break;
    // The kernel refuses this one: the plain call says why.
    iocb* block = queued_[done++];
    free_.push_back(block);
    run_here(*std::bit_cast<DiskOperation*>(block->aio_data));
  }
  queued_.erase(queued_.begin(), queued_.begin() + static_cast<ptrdiff_t>(done));
}

void AioDiskQueue::collect(long minimum) noexcept {
  std::array<io_event, kEventsPerCall> events;
  timespec at_once{};
  for (;;) {
    const long count = ::syscall(SYS_io_getevents, context_, minimum, events.size(), events.data(),
                                 minimum == 0 ? &at_once : nullptr);
    if (count < 0 && errno == EINTR) continue;
    for (long i = 0; i < count; ++i) {
      free_.push_back(std::bit_cast<iocb*>(events[static_cast<size_t>(i)].obj));
      --in_kernel_;
      refused_ = false;
      auto* operation = std::bit_cast<DiskOperation*>(events[static_cast<size_t>(i)].data);
      finish_transfer(file_, *operation, events[static_cast<size_t>(i)].res);
      completed_.push(*operation);
    }
    return;
  }
}

DiskOperation* AioDiskQueue::next_completed() noexcept {
  if (completed_.empty() && in_kernel_ != 0) {
    (void)event_.consume();
    collect(0);
  }
  return completed_.pop();
}

void AioDiskQueue::wait() noexcept {
  submit();
  if (completed_.empty() && in_kernel_ != 0) collect(1);
}

}  // namespace tsvmm
