#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "disk/completed_list.h"
#include "disk/disk_queue.h"

namespace tsvmm::vhdx {

class Image;
struct Extent;

/// One queue of a VHDX image: cuts operations where blocks end and hands the parts, one after the
/// other, to a queue of the container.
class Queue final : public DiskQueue {
 public:
  /// The image outlives it. Throws Error.
  Queue(Image& image, uint16_t depth);

  void start(DiskOperation& operation) noexcept override;
  void submit() noexcept override { container_->submit(); }
  DiskOperation* next_completed() noexcept override;
  [[nodiscard]] bool needs_submit() const noexcept override { return container_->needs_submit(); }
  void wait() noexcept override;
  [[nodiscard]] int completion_fd() const noexcept override;
  [[nodiscard]] bool completions_pending() const noexcept override;
  [[nodiscard]] std::string_view engine() const noexcept override { return container_->engine(); }

 private:
  /// The part of an operation that the container's queue has.
  struct Part : DiskOperation {
    DiskOperation* whole = nullptr;
    uint64_t taken = 0;          ///< bytes of the whole
    std::span<iovec> remainder;  ///< the whole's buffers behind the part
    iovec cut{};                 ///< what is left of the remainder's first buffer
  };

  /// Does what needs no waiting; true if the operation has ended.
  [[nodiscard]] bool proceed(Part& part) noexcept;
  [[nodiscard]] bool proceed_transfer(Part& part) noexcept;
  [[nodiscard]] bool flush(Part& part) noexcept;
  void hand_on(Part& part, const Extent& extent) noexcept;
  /// Takes a part back that the container's queue has done; true if the operation has ended.
  [[nodiscard]] bool take_back(Part& part) noexcept;
  [[nodiscard]] bool finish(DiskOperation& operation, int error) const noexcept;

  Image& image_;
  const std::unique_ptr<DiskQueue> container_;
  std::vector<Part> parts_;
  std::vector<Part*> free_;
  CompletedList completed_;  ///< in start()
};

}  // namespace tsvmm::vhdx
