#include "core/io_uring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

namespace tsvmm {
namespace {

int io_uring_setup(uint32_t entries, io_uring_params* params) {
  return static_cast<int>(::syscall(SYS_io_uring_setup, entries, params));
}

int io_uring_enter(int fd, unsigned submit, unsigned wait_for, unsigned flags) {
  return static_cast<int>(::syscall(SYS_io_uring_enter, fd, submit, wait_for, flags, nullptr, 0));
}

uint32_t load_acquire(uint32_t& field) {
  return std::atomic_ref<uint32_t>(field).load(std::memory_order_acquire);
}

void store_release(uint32_t& field, uint32_t value) {
  std::atomic_ref<uint32_t>(field).store(value, std::memory_order_release);
}

/// The ring's descriptor, or -1, with the best of the settings that this kernel knows.
int set_up_best(uint32_t entries, io_uring_params& params) {
  // Completions are written when the thread enters the kernel anyway, rather than by an interrupt
  // of it, and a flag says that there are some. Kernels before 5.19 do not know that. To defer them
  // (DEFER_TASKRUN) gains little more, and then the ring's descriptor does not poll readable.
  for (const uint32_t flags : {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0U}) {
    params = {};
    params.flags = IORING_SETUP_CLAMP | flags;
    const int fd = io_uring_setup(entries, &params);
    if (fd >= 0 || errno != EINVAL) return fd;
  }
  return -1;
}

}  // namespace

std::unique_ptr<IoUring> IoUring::create(uint32_t entries) noexcept {
  std::unique_ptr<IoUring> ring(new (std::nothrow) IoUring);
  if (!ring || !ring->set_up(entries)) return nullptr;
  return ring;
}

bool IoUring::set_up(uint32_t entries) noexcept {
  io_uring_params params{};
  const int fd = set_up_best(entries, params);
  if (fd < 0) return false;
  fd_.reset(fd);
  // Both features are as old as 5.5, before which io_uring is not worth the trouble.
  constexpr uint32_t kNeeded = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
  if ((params.features & kNeeded) != kNeeded) return false;

  const size_t submission_size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  const size_t completion_size = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  if (!map(rings_, std::max(submission_size, completion_size), IORING_OFF_SQ_RING)) return false;
  if (!map(entries_, params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES)) return false;

  auto* base = static_cast<uint8_t*>(rings_.address);
  const auto field = [base](uint32_t offset) { return reinterpret_cast<uint32_t*>(base + offset); };
  submission_head_ = field(params.sq_off.head);
  submission_tail_ = field(params.sq_off.tail);
  submission_flags_ = field(params.sq_off.flags);
  submission_mask_ = *field(params.sq_off.ring_mask);
  completion_head_ = field(params.cq_off.head);
  completion_tail_ = field(params.cq_off.tail);
  completion_mask_ = *field(params.cq_off.ring_mask);
  completions_ = reinterpret_cast<const io_uring_cqe*>(base + params.cq_off.cqes);
  // Entry i is always in place i of the indirection that the kernel reads.
  uint32_t* array = field(params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; ++i) array[i] = i;
  return true;
}

bool IoUring::map(Mapping& mapping, size_t size, uint64_t offset) noexcept {
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                         fd_.get(), static_cast<off_t>(offset));
  if (address == MAP_FAILED) return false;
  mapping = {address, size};
  return true;
}

IoUring::~IoUring() {
  // The kernel ends a ring some time after its descriptor is closed; the file, and with it the
  // image's lock, goes now.
  if (fd_.valid()) ::syscall(SYS_io_uring_register, fd_.get(), IORING_UNREGISTER_FILES, nullptr, 0);
  if (entries_.address != nullptr) ::munmap(entries_.address, entries_.size);
  if (rings_.address != nullptr) ::munmap(rings_.address, rings_.size);
}

bool IoUring::register_file(int fd) noexcept {
  return ::syscall(SYS_io_uring_register, fd_.get(), IORING_REGISTER_FILES, &fd, 1) == 0;
}

io_uring_sqe* IoUring::next_entry() noexcept {
  if (unsubmitted() > submission_mask_) return nullptr;
  auto* entry = static_cast<io_uring_sqe*>(entries_.address) + (tail_ & submission_mask_);
  std::memset(entry, 0, sizeof *entry);
  ++tail_;
  return entry;
}

bool IoUring::submit(unsigned wait_for) noexcept {
  store_release(*submission_tail_, tail_);
  for (;;) {
    const uint32_t waiting = unsubmitted();
    const bool enter = wait_for != 0 || work_is_deferred() ||
                       (load_acquire(*submission_flags_) & IORING_SQ_CQ_OVERFLOW) != 0;
    if (waiting == 0 && !enter) return true;
    const unsigned flags = enter ? IORING_ENTER_GETEVENTS : 0;
    const int result = io_uring_enter(fd_.get(), waiting, wait_for, flags);
    if (result < 0 && errno == EINTR) continue;
    // EAGAIN, EBUSY: the kernel is short of memory or wants completions to be taken first.
    return result >= 0 && static_cast<uint32_t>(result) >= waiting;
  }
}

void IoUring::wait() noexcept {
  while (!completions_pending()) {
    const int result = io_uring_enter(fd_.get(), 0, 1, IORING_ENTER_GETEVENTS);
    if (result >= 0 || errno != EINTR) return;
  }
}

uint32_t IoUring::unsubmitted() const noexcept { return tail_ - load_acquire(*submission_head_); }

/// The kernel looks at the ring only when it is entered.
uint64_t IoUring::withdraw() noexcept {
  store_release(*submission_tail_, --tail_);
  return static_cast<io_uring_sqe*>(entries_.address)[tail_ & submission_mask_].user_data;
}

bool IoUring::work_is_deferred() const noexcept {
  return (load_acquire(*submission_flags_) & IORING_SQ_TASKRUN) != 0;
}

bool IoUring::completions_pending() const noexcept {
  return *completion_head_ != load_acquire(*completion_tail_) || work_is_deferred();
}

bool IoUring::next_completion(Completion& completion) noexcept {
  const uint32_t head = *completion_head_;
  if (head == load_acquire(*completion_tail_)) {
    if (!work_is_deferred()) return false;
    (void)io_uring_enter(fd_.get(), 0, 0, IORING_ENTER_GETEVENTS);
    if (head == load_acquire(*completion_tail_)) return false;
  }
  const io_uring_cqe& entry = completions_[head & completion_mask_];
  completion = {entry.user_data, entry.res};
  store_release(*completion_head_, head + 1);
  return true;
}

}  // namespace tsvmm
