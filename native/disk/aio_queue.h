#pragma once

#include <linux/aio_abi.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/event_fd.h"
#include "disk/completed_list.h"
#include "disk/disk_queue.h"
#include "disk/image_file.h"

namespace tsvmm {

/// Moves a raw image's bytes by Linux AIO, which waits for nothing only with O_DIRECT: what does
/// not suit it runs by plain system calls.
class AioDiskQueue final : public DiskQueue {
 public:
  /// nullptr if the host refuses a context (fs.aio-max-nr). `reason` says why io_uring was not
  /// taken. Throws Error when descriptors run out.
  static std::unique_ptr<AioDiskQueue> create(const RawImage& image, uint16_t depth,
                                              const std::string& reason);
  ~AioDiskQueue() override;
  AioDiskQueue(const AioDiskQueue&) = delete;
  AioDiskQueue& operator=(const AioDiskQueue&) = delete;

  void start(DiskOperation& operation) noexcept override;
  void submit() noexcept override;
  DiskOperation* next_completed() noexcept override;
  [[nodiscard]] bool needs_submit() const noexcept override {
    return !queued_.empty() && !refused_;
  }
  void wait() noexcept override;
  [[nodiscard]] int completion_fd() const noexcept override { return event_.fd(); }
  [[nodiscard]] std::string_view engine() const noexcept override { return engine_; }

 private:
  AioDiskQueue(const RawImage& image, aio_context_t context, uint16_t depth,
               const std::string& reason);
  void run_here(DiskOperation& operation) noexcept;
  /// Takes what has ended from the kernel, waiting for at least `minimum`.
  void collect(long minimum) noexcept;

  const ImageFile file_;
  const aio_context_t context_;
  const EventFd event_;
  const std::string engine_;
  std::vector<iocb> blocks_;
  std::vector<iocb*> free_;
  std::vector<iocb*> queued_;  ///< filled, not yet the kernel's
  size_t in_kernel_ = 0;
  bool refused_ = false;  ///< what is queued, until one of those in the kernel has ended
  CompletedList completed_;
};

}  // namespace tsvmm
