#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/poller.h"
#include "disk/completed_list.h"
#include "disk/disk_queue.h"
#include "disk/qcow2/decompress.h"
#include "disk/qcow2/mapping.h"

namespace tsvmm::qcow2 {

class Image;

/// One queue of a qcow2 image: cuts operations into parts that lie in one piece, and hands those to
/// the queues of the container and of the backing image.
class Queue final : public DiskQueue {
 public:
  /// The image outlives it. Throws Error.
  Queue(Image& image, uint16_t depth);
  ~Queue() override;

  void start(DiskOperation& operation) noexcept override;
  void submit() noexcept override;
  DiskOperation* next_completed() noexcept override;
  [[nodiscard]] bool needs_submit() const noexcept override;
  void wait() noexcept override;
  [[nodiscard]] int completion_fd() const noexcept override;
  [[nodiscard]] bool completions_pending() const noexcept override;
  [[nodiscard]] std::string_view engine() const noexcept override { return container_->engine(); }

 private:
  /// An operation of the guest's on its way. The operation itself says what of it is left to be
  /// handed on.
  struct Request {
    DiskOperation* operation = nullptr;
    uint32_t parts = 0;  ///< on their way
    int error = 0;
    bool durable = false;
  };
  /// What another queue does of it.
  struct Part : DiskOperation {
    Request* request = nullptr;
    bool entered = false;  ///< counts as in flight
    uint8_t epoch = 0;
    std::vector<iovec> pieces;  ///< if it is not the whole operation
  };

  void proceed(Request& request) noexcept;
  [[nodiscard]] Extent find(const DiskOperation& operation) noexcept;
  void proceed_read(Request& request, const Extent& extent) noexcept;
  void proceed_write(Request& request, const Extent& extent) noexcept;
  void read_backing(Request& request, uint64_t length) noexcept;
  void read_compressed(Request& request, const Extent& extent) noexcept;
  void write_slowly(Request& request) noexcept;
  void zero(Request& request) noexcept;
  void flush(Request& request) noexcept;
  [[nodiscard]] bool is_inside_container(const Extent& extent) const noexcept;

  Part& take_part(Request& request) noexcept;
  /// Hands the next `length` bytes of the request to a queue, at another offset.
  void forward(Request& request, DiskQueue& queue, uint64_t offset, uint64_t length,
               const Extent* entered) noexcept;
  void note_failed_sync(const Part& part) noexcept;
  void finish_part(Part& part) noexcept;
  void fail(Request& request, int error) noexcept;
  void finish_if_done(Request& request) noexcept;
  [[nodiscard]] DiskQueue* backing_queue() noexcept;
  [[nodiscard]] bool reap() noexcept;
  [[nodiscard]] bool resume_stalled() noexcept;
  [[nodiscard]] bool commit() noexcept;

  Image& image_;
  const uint16_t depth_;
  const std::unique_ptr<DiskQueue> container_;
  std::unique_ptr<DiskQueue> backing_;  ///< made when first needed
  uint32_t container_parts_ = 0;        ///< on their way there
  uint32_t backing_parts_ = 0;
  std::optional<Poller> poller_;  ///< of both queues' completions, if there may be two
  CompressedReader compressed_;
  std::vector<Request> requests_;
  std::vector<Request*> free_requests_;
  std::vector<Part> parts_;
  std::vector<Part*> free_parts_;
  std::vector<Request*> stalled_;      ///< wait for free parts
  std::vector<Request*> uncommitted_;  ///< done but for a commit
  CompletedList completed_;
};

}  // namespace tsvmm::qcow2
