#include "disk/qcow2/queue.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "disk/buffers.h"
#include "disk/qcow2/image.h"
#include "disk/sync_io.h"

namespace tsvmm::qcow2 {
namespace {

using Kind = DiskOperation::Kind;

void watch(Poller& poller, const DiskQueue& queue) {
  const int fd = queue.completion_fd();
  if (fd < 0) return;
  if (const int error = poller.add(fd, io::kReadable, 0)) {
    throw Error::from_errno("watching a disk queue", error);
  }
}

}  // namespace

Queue::Queue(Image& image, uint16_t depth)
    : image_(image),
      depth_(depth),
      container_(image.container().make_queue(depth)),
      compressed_(image.container(), image.metadata().header()),
      requests_(depth),
      parts_(depth),
      completed_(depth) {
  for (Request& request : requests_) free_requests_.push_back(&request);
  for (Part& part : parts_) free_parts_.push_back(&part);
  stalled_.reserve(depth);
  uncommitted_.reserve(depth);
  if (image.backing() == nullptr) return;
  poller_.emplace();
  watch(*poller_, *container_);
}

Queue::~Queue() = default;

void Queue::start(DiskOperation& operation) noexcept {
  Request& request = *free_requests_.back();
  free_requests_.pop_back();
  request = {.operation = &operation, .durable = operation.durable};
  operation.error = 0;
  const uint64_t size = image_.size();
  if (operation.length > size || operation.offset > size - operation.length) {
    fail(request, EINVAL);
    return finish_if_done(request);
  }
  switch (operation.kind) {
    case Kind::kRead:
    case Kind::kWrite:
      return proceed(request);
    case Kind::kFlush:
      return flush(request);
    case Kind::kDiscard:
    case Kind::kWriteZeroes:
      return zero(request);
  }
}

void Queue::proceed(Request& request) noexcept {
  DiskOperation& operation = *request.operation;
  while (operation.length != 0 && request.error == 0) {
    if (free_parts_.empty()) {
      stalled_.push_back(&request);
      return;
    }
    const Extent extent = find(operation);
    if (operation.kind == Kind::kRead) {
      proceed_read(request, extent);
    } else {
      proceed_write(request, extent);
    }
  }
  finish_if_done(request);
}

Extent Queue::find(const DiskOperation& operation) noexcept {
  Metadata& metadata = image_.metadata();
  const Extent extent = metadata.find(operation.offset, operation.length);
  if (extent.kind != Extent::Kind::kMissing) return extent;
  const std::lock_guard guard(metadata.lock());
  if (metadata.load(operation.offset) != 0) return {.kind = Extent::Kind::kDamaged};
  return metadata.find(operation.offset, operation.length);
}

bool Queue::is_inside_container(const Extent& extent) const noexcept {
  const uint64_t size = image_.container().size();
  return extent.host < size && extent.length <= size - extent.host;
}

void Queue::proceed_read(Request& request, const Extent& extent) noexcept {
  switch (extent.kind) {
    case Extent::Kind::kData:
      if (is_inside_container(extent)) {
        return forward(request, *container_, extent.host, extent.length, &extent);
      }
      // An image need not be as long as its last cluster.
      for (uint64_t left = extent.length; left != 0 && request.error == 0;) {
        const iovec front = request.operation->buffers.front();
        const size_t size = std::min<uint64_t>(front.iov_len, left);
        const std::span<uint8_t> bytes(static_cast<uint8_t*>(front.iov_base), size);
        request.error = image_.container().read(extent.host + (extent.length - left), bytes);
        advance(*request.operation, size);
        left -= size;
      }
      return image_.metadata().in_flight().leave(extent.epoch);
    case Extent::Kind::kZero:
      return fill_with_zeros(*request.operation, extent.length);
    case Extent::Kind::kUnallocated:
      return read_backing(request, extent.length);
    case Extent::Kind::kCompressed:
      return read_compressed(request, extent);
    case Extent::Kind::kMissing:
    case Extent::Kind::kDamaged:
      return fail(request, EIO);
  }
}

void Queue::read_backing(Request& request, uint64_t length) noexcept {
  DiskOperation& operation = *request.operation;
  const uint64_t there = image_.backing() != nullptr ? image_.backing()->size() : 0;
  if (operation.offset >= there) return fill_with_zeros(operation, length);
  DiskQueue* queue = backing_queue();
  if (queue == nullptr) return fail(request, EIO);
  forward(request, *queue, operation.offset, std::min(length, there - operation.offset), nullptr);
}

void Queue::read_compressed(Request& request, const Extent& extent) noexcept {
  DiskOperation& operation = *request.operation;
  const uint64_t inside = operation.offset & image_.metadata().geometry().cluster_mask();
  std::span<const uint8_t> cluster;
  if (const int error = compressed_.read(extent.host, cluster)) {
    fail(request, error);
  } else {
    fill_from(operation, cluster.subspan(inside, extent.length));
  }
  image_.metadata().in_flight().leave(extent.epoch);
}

void Queue::proceed_write(Request& request, const Extent& extent) noexcept {
  Metadata& metadata = image_.metadata();
  if (metadata.read_only()) {
    fail(request, EROFS);
  } else if (const int error = metadata.writable()) {
    fail(request, error);
  } else if (extent.kind == Extent::Kind::kDamaged) {
    fail(request, EIO);
  } else if (extent.kind == Extent::Kind::kData && extent.writable) {
    if (!is_inside_container(extent)) {
      const std::lock_guard guard(metadata.lock());
      if (const int reached = metadata.reach(extent.host + extent.length)) fail(request, reached);
    }
    if (request.error == 0) {
      return forward(request, *container_, extent.host, extent.length, &extent);
    }
  } else {
    write_slowly(request);
  }
  if (extent.kind == Extent::Kind::kData || extent.kind == Extent::Kind::kCompressed) {
    metadata.in_flight().leave(extent.epoch);
  }
}

void Queue::write_slowly(Request& request) noexcept {
  const std::lock_guard guard(image_.metadata().lock());
  if (const int error = image_.writer().write(*request.operation)) fail(request, error);
}

void Queue::zero(Request& request) noexcept {
  DiskOperation& operation = *request.operation;
  Metadata& metadata = image_.metadata();
  if (metadata.read_only()) {
    fail(request, EROFS);
  } else if (operation.kind == Kind::kWriteZeroes) {
    const std::lock_guard guard(metadata.lock());
    const bool unmap = operation.may_unmap && image_.settings().sparse;
    request.error = image_.writer().write_zeroes(operation.offset, operation.length, unmap);
  } else if (image_.settings().sparse) {
    const std::lock_guard guard(metadata.lock());
    request.error = image_.writer().discard(operation.offset, operation.length);
  }
  operation.offset += operation.length;
  operation.length = 0;
  // What a cut cluster got is zeros like any data, and no change of the tables.
  if (request.durable && request.error == 0) {
    uncommitted_.push_back(&request);
    return;
  }
  finish_if_done(request);
}

void Queue::flush(Request& request) noexcept {
  request.operation->length = 0;
  if (image_.metadata().read_only()) return finish_if_done(request);
  if (const int error = image_.container().syncs().failure()) {
    fail(request, error);
    return finish_if_done(request);
  }
  request.durable = true;
  if (image_.metadata().dirty() || free_parts_.empty()) {
    uncommitted_.push_back(&request);
    return;
  }
  Part& part = take_part(request);
  static_cast<DiskOperation&>(part) = {};
  part.kind = Kind::kFlush;
  ++container_parts_;
  container_->start(part);
}

Queue::Part& Queue::take_part(Request& request) noexcept {
  Part& part = *free_parts_.back();
  free_parts_.pop_back();
  part.request = &request;
  part.entered = false;
  ++request.parts;
  return part;
}

void Queue::forward(Request& request, DiskQueue& queue, uint64_t offset, uint64_t length,
                    const Extent* entered) noexcept {
  DiskOperation& operation = *request.operation;
  Part& part = take_part(request);
  std::span<iovec> buffers = operation.buffers;
  if (length != operation.length) {
    part.pieces.clear();
    length = copy_front(operation, length, kMaxBuffersPerCall, part.pieces);
    buffers = part.pieces;
  }
  static_cast<DiskOperation&>(part) = {.kind = operation.kind,
                                       .durable = request.durable,
                                       .offset = offset,
                                       .length = length,
                                       .buffers = buffers};
  if (length == operation.length) {
    operation.offset += length;
    operation.length = 0;
    operation.buffers = {};
  } else {
    advance(operation, length);
  }
  if (entered != nullptr) {
    part.entered = true;
    part.epoch = entered->epoch;
  }
  ++(&queue == container_.get() ? container_parts_ : backing_parts_);
  queue.start(part);
}

DiskQueue* Queue::backing_queue() noexcept {
  if (backing_) return backing_.get();
  try {
    auto queue = image_.backing()->make_queue(depth_);
    watch(*poller_, *queue);
    backing_ = std::move(queue);
  } catch (const Error&) {
    return nullptr;
  }
  return backing_.get();
}

void Queue::fail(Request& request, int error) noexcept {
  if (request.error == 0) request.error = error;
}

/// Tables must not be committed any more once the container could not sync what they refer to.
void Queue::note_failed_sync(const Part& part) noexcept {
  const bool is_sync = part.kind == Kind::kFlush || (part.durable && !is_refusal(part.error));
  if (is_sync && part.kind != Kind::kRead) image_.container().syncs().fail(part.error);
}

void Queue::finish_part(Part& part) noexcept {
  Request& request = *part.request;
  if (part.entered) image_.metadata().in_flight().leave(part.epoch);
  if (part.error != 0) {
    note_failed_sync(part);
    fail(request, part.error);
  }
  --request.parts;
  free_parts_.push_back(&part);
  // A stalled request still has something to hand on.
  if (request.operation->length == 0 || request.error != 0) {
    if (std::ranges::find(stalled_, &request) == stalled_.end()) finish_if_done(request);
  }
}

void Queue::finish_if_done(Request& request) noexcept {
  if (request.parts != 0) return;
  const bool changes = request.operation->kind != Kind::kRead;
  if (request.error == 0 && request.durable && changes && image_.metadata().dirty()) {
    uncommitted_.push_back(&request);
    return;
  }
  request.operation->error = request.error;
  completed_.push(*request.operation);
  free_requests_.push_back(&request);
}

void Queue::submit() noexcept {
  container_->submit();
  if (backing_) backing_->submit();
}

bool Queue::needs_submit() const noexcept {
  return container_->needs_submit() || (backing_ && backing_->needs_submit());
}

bool Queue::reap() noexcept {
  bool any = false;
  while (DiskOperation* operation = container_->next_completed()) {
    --container_parts_;
    finish_part(static_cast<Part&>(*operation));
    any = true;
  }
  while (DiskOperation* operation = backing_ ? backing_->next_completed() : nullptr) {
    --backing_parts_;
    finish_part(static_cast<Part&>(*operation));
    any = true;
  }
  return any;
}

bool Queue::resume_stalled() noexcept {
  if (stalled_.empty() || free_parts_.empty()) return false;
  Request& request = *stalled_.front();
  stalled_.erase(stalled_.begin());
  proceed(request);
  return true;
}

bool Queue::commit() noexcept {
  if (uncommitted_.empty()) return false;
  int error = 0;
  {
    const std::lock_guard guard(image_.metadata().lock());
    error = image_.metadata().commit();
  }
  for (Request* request : uncommitted_) {
    request->operation->error = error;
    completed_.push(*request->operation);
    free_requests_.push_back(request);
  }
  uncommitted_.clear();
  return true;
}

DiskOperation* Queue::next_completed() noexcept {
  for (;;) {
    if (DiskOperation* operation = completed_.pop()) return operation;
    // A commit last, so that it does for all that has been done.
    if (!reap() && !resume_stalled() && !commit()) return nullptr;
  }
}

void Queue::wait() noexcept {
  while (completed_.empty()) {
    submit();
    const bool worked = reap() || resume_stalled();
    if (!uncommitted_.empty()) return;
    if (worked) continue;
    if (container_parts_ != 0) {
      container_->wait();
    } else if (backing_parts_ != 0) {
      backing_->wait();
    } else {
      return;
    }
  }
}

int Queue::completion_fd() const noexcept {
  return poller_ ? poller_->fd() : container_->completion_fd();
}

bool Queue::completions_pending() const noexcept {
  return !completed_.empty() || container_->completions_pending() ||
         (backing_ && backing_->completions_pending());
}

}  // namespace tsvmm::qcow2
