#include "disk/qcow2/image.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "disk/qcow2/queue.h"

namespace tsvmm::qcow2 {
namespace {

Header read_header(Container& container) {
  std::array<uint8_t, kHeaderBytes> bytes{};
  if (const int error = container.read(0, bytes)) {
    throw Error::from_errno("reading the qcow2 image's header", error);
  }
  return parse_header(bytes, container.size());
}

}  // namespace

Image::Image(std::unique_ptr<Container> container, std::unique_ptr<DiskImage> backing,
             ImageSettings settings, const Cancellation& cancellation)
    : settings_(settings),
      container_(std::move(container)),
      backing_(std::move(backing)),
      metadata_(*container_, read_header(*container_),
                {.read_only = settings.read_only, .punch = settings.sparse}),
      writer_(*container_, metadata_, backing_.get()) {
  if (metadata_.header().has_backing && !backing_) {
    throw Error("EINVAL", "qcow2 image: it has a backing file, which is not at hand");
  }
  if (!metadata_.header().has_backing && backing_) {
    throw Error("EINVAL", "qcow2 image: it has no backing file");
  }
  metadata_.open(cancellation);
  size_ = metadata_.header().size & ~uint64_t{kSectorSize - 1};
}

Image::~Image() { metadata_.close(); }

DiskLimits Image::limits() const noexcept {
  DiskLimits limits = container_->limits();
  // A disk has sectors of 512 bytes in this format, whatever the one has that the image lies on.
  limits.logical_block_size = kSectorSize;
  const auto granule = static_cast<uint32_t>(metadata_.geometry().granule_size());
  const bool discards = !settings_.read_only && settings_.sparse;
  limits.discard_granularity = discards ? std::max(granule, limits.logical_block_size) : 0;
  limits.can_write_zeroes = !settings_.read_only;
  return limits;
}

std::unique_ptr<DiskQueue> Image::make_queue(uint16_t depth) {
  return std::make_unique<Queue>(*this, depth);
}

void Image::resize(uint64_t bytes) {
  const std::lock_guard guard(metadata_.lock());
  const uint64_t old = metadata_.header().size;
  if (settings_.read_only) throw Error("EROFS", "the disk is read-only");
  if (bytes % kSectorSize != 0) {
    throw Error("EINVAL", "a disk's size must be a multiple of 512 bytes");
  }
  if (bytes == old) return;
  if (bytes < old) throw Error("ENOTSUP", "a qcow2 image can only grow");
  if (metadata_.header().version < 3 && metadata_.header().snapshots != 0) {
    throw Error("ENOTSUP", "a qcow2 image of version 2 with snapshots has a fixed size");
  }
  metadata_.prepare_size(bytes);
  // Neither what the last cluster has behind the old end nor what a longer backing image has there
  // must come to light.
  const uint64_t cluster = metadata_.geometry().cluster_size();
  const uint64_t backed = backing_ ? backing_->size() : 0;
  const uint64_t tail = (old + cluster - 1) & ~(cluster - 1);
  const uint64_t end = std::min(bytes, std::max(tail, backed));
  if (end > old) {
    if (const int error = writer_.write_zeroes(old, end - old, true)) {
      throw Error::from_errno("clearing what lies behind the disk's old end", error);
    }
  }
  metadata_.set_size(bytes);
  size_.store(bytes, std::memory_order_release);
}

}  // namespace tsvmm::qcow2
