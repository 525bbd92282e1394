#include "disk/vhdx/queue.h"

#include <cerrno>

#include "disk/buffers.h"
#include "disk/vhdx/image.h"

namespace tsvmm::vhdx {

using Kind = DiskOperation::Kind;

Queue::Queue(Image& image, uint16_t depth)
    : image_(image),
      container_(image.container().make_queue(depth)),
      parts_(depth),
      completed_(depth) {
  free_.reserve(depth);
  for (Part& part : parts_) free_.push_back(&part);
}

void Queue::start(DiskOperation& operation) noexcept {
  Part& part = *free_.back();
  part.whole = &operation;
  if (proceed(part)) {
    completed_.push(operation);
  } else {
    free_.pop_back();
  }
}

DiskOperation* Queue::next_completed() noexcept {
  if (DiskOperation* operation = completed_.pop()) return operation;
  while (DiskOperation* done = container_->next_completed()) {
    auto& part = static_cast<Part&>(*done);
    DiskOperation* whole = part.whole;
    if (!take_back(part)) continue;
    free_.push_back(&part);
    return whole;
  }
  return nullptr;
}

void Queue::wait() noexcept {
  if (completed_.empty()) container_->wait();
}

int Queue::completion_fd() const noexcept { return container_->completion_fd(); }

bool Queue::completions_pending() const noexcept {
  return !completed_.empty() || container_->completions_pending();
}

bool Queue::finish(DiskOperation& operation, int error) const noexcept {
  operation.error = error;
  return true;
}

bool Queue::proceed(Part& part) noexcept {
  switch (part.whole->kind) {
    case Kind::kRead:
    case Kind::kWrite:
      return proceed_transfer(part);
    case Kind::kFlush:
      return flush(part);
    case Kind::kDiscard:
    case Kind::kWriteZeroes:
      break;
  }
  return finish(*part.whole, EOPNOTSUPP);
}

bool Queue::proceed_transfer(Part& part) noexcept {
  DiskOperation& whole = *part.whole;
  const bool is_write = whole.kind == Kind::kWrite;
  while (whole.length != 0) {
    Extent extent;
    if (const int error = image_.find(whole.offset, whole.length, is_write, extent)) {
      return finish(whole, error);
    }
    if (extent.is_data) {
      hand_on(part, extent);
      return false;
    }
    fill_with_zeros(whole, extent.length);
  }
  // A write that must last needs the table as well that says where it is.
  const bool needs_commit = is_write && whole.durable && image_.has_changes();
  return finish(whole, needs_commit ? image_.commit() : 0);
}

bool Queue::flush(Part& part) noexcept {
  if (const int error = image_.container().syncs().failure()) return finish(*part.whole, error);
  if (image_.has_changes()) return finish(*part.whole, image_.commit());
  static_cast<DiskOperation&>(part) = {};
  part.kind = Kind::kFlush;
  container_->start(part);
  return false;
}

void Queue::hand_on(Part& part, const Extent& extent) noexcept {
  DiskOperation& whole = *part.whole;
  size_t count = 0;
  uint64_t covered = 0;
  while (covered < extent.length) covered += whole.buffers[count++].iov_len;
  part.remainder = whole.buffers.subspan(count);
  part.cut = {};
  if (const uint64_t beyond = covered - extent.length; beyond != 0) {
    iovec& last = whole.buffers[count - 1];
    last.iov_len -= beyond;
    part.cut = {static_cast<uint8_t*>(last.iov_base) + last.iov_len, beyond};
    part.remainder = whole.buffers.subspan(count - 1);
  }
  part.taken = extent.length;
  static_cast<DiskOperation&>(part) = {.kind = whole.kind,
                                       .durable = whole.durable,
                                       .offset = extent.file_offset,
                                       .length = extent.length,
                                       .buffers = whole.buffers.first(count)};
  container_->start(part);
}

bool Queue::take_back(Part& part) noexcept {
  DiskOperation& whole = *part.whole;
  if (part.error != 0) {
    // Nothing may be committed any more once the container could not sync what it refers to.
    const bool is_sync = part.kind == Kind::kFlush || (part.durable && !is_refusal(part.error));
    if (is_sync) image_.container().syncs().fail(part.error);
  }
  if (part.error != 0 || whole.kind == Kind::kFlush) return finish(whole, part.error);
  whole.offset += part.taken;
  whole.length -= part.taken;
  whole.buffers = part.remainder;
  if (part.cut.iov_len != 0) whole.buffers.front() = part.cut;
  return proceed(part);
}

}  // namespace tsvmm::vhdx
