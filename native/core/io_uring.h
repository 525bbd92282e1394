#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/unique_fd.h"

namespace tsvmm {

/// One io_uring, over the bare system calls. Belongs to one thread at a time.
///
/// fd() polls readable while completions wait.
class IoUring {
 public:
  struct Completion {
    uint64_t user_data;
    int32_t result;  ///< bytes, or a negative errno
  };

  /// A ring for up to `entries` operations in flight, or nullptr if the host refuses (an old
  /// kernel, a policy, a resource limit).
  static std::unique_ptr<IoUring> create(uint32_t entries) noexcept;
  ~IoUring();
  IoUring(const IoUring&) = delete;
  IoUring& operator=(const IoUring&) = delete;

  /// Makes `fd` the ring's file 0, which saves a look-up for each operation. False if the host
  /// refuses.
  [[nodiscard]] bool register_file(int fd) noexcept;

  /// A cleared submission entry, or nullptr if as many as fit wait for submit().
  io_uring_sqe* next_entry() noexcept;
  /// Hands all entries to the kernel and waits until `wait_for` completions are there. False if
  /// some are left for another try; it has not waited then.
  [[nodiscard]] bool submit(unsigned wait_for = 0) noexcept;
  /// Hands nothing on and waits until a completion is there. Only while the kernel has an entry.
  void wait() noexcept;
  /// Entries that the kernel does not have.
  [[nodiscard]] uint32_t unsubmitted() const noexcept;
  /// Takes the last of these back, of which there is one, and returns its user data. It must have
  /// been filled.
  [[nodiscard]] uint64_t withdraw() noexcept;
  /// Takes one completion; false if there is none.
  [[nodiscard]] bool next_completion(Completion& completion) noexcept;
  /// Whether next_completion() would find one, without a system call.
  [[nodiscard]] bool completions_pending() const noexcept;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  /// A mapping of the ring's descriptor.
  struct Mapping {
    void* address = nullptr;
    size_t size = 0;
  };

  IoUring() = default;
  [[nodiscard]] bool set_up(uint32_t entries) noexcept;
  /// The kernel has ended operations whose completions it writes when it is entered next.
  [[nodiscard]] bool work_is_deferred() const noexcept;
  [[nodiscard]] bool map(Mapping& mapping, size_t size, uint64_t offset) noexcept;

  UniqueFd fd_;
  Mapping rings_;
  Mapping entries_;
  uint32_t* submission_head_ = nullptr;
  uint32_t* submission_tail_ = nullptr;
  uint32_t* submission_flags_ = nullptr;
  uint32_t submission_mask_ = 0;
  uint32_t* completion_head_ = nullptr;
  uint32_t* completion_tail_ = nullptr;
  uint32_t completion_mask_ = 0;
  const io_uring_cqe* completions_ = nullptr;
  uint32_t tail_ = 0;  ///< of the submission ring, with entries not yet submitted
};

}  // namespace tsvmm
