#include "disk/container.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "disk/sync_io.h"

namespace tsvmm {
namespace {

/// A file grows by at least this much, so that not every new cluster changes its size. The rest is
/// a hole, which is cut off when the image is closed.
constexpr uint64_t kGrowth = 4 << 20;

bool is_regular_file(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

int Container::barrier() noexcept {
  if (const int error = syncs_.failure()) return error;
  return syncs_.judge(sync());
}

int Container::write_bytes(uint64_t offset, std::span<const uint8_t> bytes) noexcept {
  iovec buffer{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  return write(offset, {&buffer, 1});
}

FileContainer::FileContainer(int fd, bool direct, DiskEngines engines)
    : image_(fd, direct, engines), file_(image_), is_file_(is_regular_file(fd)) {}

DiskLimits FileContainer::limits() const noexcept {
  DiskLimits limits = image_.limits();
  limits.physical_block_size = std::max(limits.physical_block_size, image_.offset_alignment());
  return limits;
}

int FileContainer::read(uint64_t offset, std::span<uint8_t> bytes) noexcept {
  const uint64_t end = image_.size();
  const size_t there = offset >= end ? 0 : std::min<uint64_t>(bytes.size(), end - offset);
  std::ranges::fill(bytes.subspan(there), 0);
  if (there == 0) return 0;
  iovec buffer{bytes.data(), there};
  DiskOperation operation{.kind = DiskOperation::Kind::kRead,
                          .offset = offset,
                          .length = there,
                          .buffers = {&buffer, 1}};
  run_synchronously(file_, operation);
  return operation.error;
}

int FileContainer::write(uint64_t offset, std::span<iovec> buffers) noexcept {
  DiskOperation operation{
      .kind = DiskOperation::Kind::kWrite, .offset = offset, .buffers = buffers};
  for (const iovec& buffer : buffers) operation.length += buffer.iov_len;
  run_synchronously(file_, operation);
  return operation.error;
}

int FileContainer::sync() noexcept { return sync_file(file_); }

int FileContainer::grow(uint64_t bytes) noexcept {
  if (bytes <= image_.size()) return 0;
  if (!is_file_) return block_device_has(bytes) ? 0 : ENOSPC;
  return image_.set_size((bytes + kGrowth - 1) & ~(kGrowth - 1));
}

/// Who gives out space as it is needed makes the device larger while it is used.
bool FileContainer::block_device_has(uint64_t bytes) noexcept {
  try {
    return bytes <= image_.look_at_block_device();
  } catch (const Error&) {
    return false;
  }
}

int FileContainer::truncate(uint64_t bytes) noexcept {
  if (!is_file_ || bytes >= image_.size()) return 0;
  return image_.set_size(bytes);
}

void FileContainer::discard(uint64_t offset, uint64_t length) noexcept {
  // A host that cannot do it keeps the space.
  (void)::fallocate(file_.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(offset), static_cast<off_t>(length));
}

std::unique_ptr<DiskQueue> FileContainer::make_queue(uint16_t depth) {
  return make_disk_queue(image_, depth);
}

}  // namespace tsvmm
