#include "disk/vhdx/image.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/bytes.h"
#include "core/error.h"
#include "disk/vhdx/damage.h"
#include "disk/vhdx/log_replay.h"
#include "disk/vhdx/queue.h"

namespace tsvmm::vhdx {
namespace {

/// Before anything else is believed.
HeaderPair read_headers(Container& container) {
  std::array<uint8_t, sizeof kFileSignature> signature{};
  check(container.read(0, signature), "reading the VHDX image");
  if (load<uint64_t>(signature) != kFileSignature) {
    throw Error("ERR_TSVMM_IMAGE", "this is no VHDX image");
  }
  return HeaderPair(container);
}

uint64_t round_up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

Image::Image(std::unique_ptr<Container> container, bool read_only, const Cancellation& cancellation)
    : container_(std::move(container)), headers_(read_headers(*container_)) {
  if (!headers_.current().log_guid.is_null()) {
    if (read_only) {
      throw Error("EROFS",
                  "the VHDX image was not closed by its last user: open it for writing once, so "
                  "that its log can be replayed");
    }
    replay_log(*container_, headers_.current(), cancellation);
    Header header = headers_.current();
    header.log_guid = {};
    check(headers_.update(header), "writing the VHDX header");
  }
  layout_ = read_layout(*container_, headers_.log());
  table_.emplace(*container_, layout_.bat, layout_.bat_index(layout_.block_count() - 1) + 1);
  end_ = round_up(
      std::max({container_->size(), layout_.log.end(), layout_.bat.end(), layout_.metadata.end()}),
      kMib);
  if (read_only) return;
  log_.emplace(*container_, layout_.log, new_guid());
  sectors_.resize(LogWriter::kMaxUpdates * kSectorSize);
  sector_numbers_.resize(LogWriter::kMaxUpdates);
}

Image::~Image() { close(); }

DiskLimits Image::limits() const noexcept {
  return {.logical_block_size = layout_.logical_sector_size,
          .physical_block_size =
              std::max(layout_.physical_sector_size, container_->limits().physical_block_size)};
}

std::unique_ptr<DiskQueue> Image::make_queue(uint16_t depth) {
  return std::make_unique<Queue>(*this, depth);
}

void Image::resize(uint64_t /*bytes*/) {
  throw Error("ENOTSUP", "a VHDX image cannot be resized while it is used");
}

int Image::find(uint64_t offset, uint64_t length, bool for_write, Extent& extent) noexcept {
  const uint64_t index = layout_.bat_index(offset / layout_.block_size);
  const uint64_t inside = offset % layout_.block_size;
  extent.length = std::min<uint64_t>(length, layout_.block_size - inside);
  if (for_write && !writing_.load(std::memory_order_acquire)) {
    if (const int error = begin_writing()) return error;
  }
  uint64_t entry = 0;
  if (const int error = find_entry(index, entry)) return error;
  auto state = static_cast<BlockState>(entry & kStateMask);
  if (for_write && state != BlockState::kFullyPresent) {
    if (const int error = allocate(index, entry)) return error;
    state = static_cast<BlockState>(entry & kStateMask);
  }
  extent.is_data = state == BlockState::kFullyPresent;
  if (!extent.is_data) {
    // A block that is partly there is for differencing images only.
    const bool is_zero = state == BlockState::kNotPresent || state == BlockState::kUndefined ||
                         state == BlockState::kZero || state == BlockState::kUnmapped ||
                         state == BlockState::kUnmappedBefore1;
    return is_zero ? 0 : EIO;
  }
  const Region block{entry & kOffsetMask, layout_.block_size};
  if (block.offset > kMaxFileSize || block.end() > container_->size() || layout_.is_taken(block)) {
    return EIO;
  }
  extent.file_offset = block.offset + inside;
  return 0;
}

int Image::find_entry(uint64_t index, uint64_t& entry) noexcept {
  if (!table_->has(index)) {
    const std::lock_guard lock(mutex_);
    if (const int error = table_->fetch(index)) return error;
  }
  entry = table_->get(index);
  return 0;
}

int Image::allocate(uint64_t index, uint64_t& entry) noexcept {
  const std::lock_guard lock(mutex_);
  if (const int error = container_->syncs().failure()) return error;
  entry = table_->get(index);
  // Another queue may have been quicker; and what is damaged must not be papered over.
  const auto state = static_cast<BlockState>(entry & kStateMask);
  if (state == BlockState::kFullyPresent) return 0;
  if (state == BlockState::kPartiallyPresent) return EIO;
  if (const int error = container_->grow(end_ + layout_.block_size)) return error;
  entry = end_ | static_cast<uint64_t>(BlockState::kFullyPresent);
  end_ += layout_.block_size;
  // First: a thread that finds the entry and writes durably has to see that it must be committed.
  changes_.fetch_add(1, std::memory_order_release);
  table_->set(index, entry);
  return 0;
}

int Image::begin_writing() noexcept {
  const std::lock_guard lock(commit_mutex_);
  if (writing_.load(std::memory_order_relaxed)) return 0;
  if (!log_) return EROFS;
  // §2.2.2.1: both change before the first write, so that copies can be told from each other.
  Header header = headers_.current();
  header.file_write_guid = new_guid();
  header.data_write_guid = new_guid();
  if (const int error = headers_.update(header)) return error;
  writing_.store(true, std::memory_order_release);
  return 0;
}

Image::Batch Image::take_changes() noexcept {
  const std::lock_guard lock(mutex_);
  Batch batch;
  while (
      batch.count < LogWriter::kMaxUpdates &&
      table_->take_changed(sector_numbers_[batch.count],
                           std::span(sectors_).subspan(batch.count * kSectorSize, kSectorSize))) {
    ++batch.count;
  }
  // With a full batch there may be more; then the next round tells.
  batch.upto = changes_.load(std::memory_order_relaxed);
  // Other queues may make the file longer before the sync ends that makes its size durable.
  batch.file_size = container_->size();
  return batch;
}

int Image::commit() noexcept {
  const std::lock_guard lock(commit_mutex_);
  if (const int error = container_->syncs().failure()) return error;
  if (!has_changes()) return container_->barrier();
  const int error = commit_changes();
  if (error != 0) container_->syncs().fail(error);
  return error;
}

int Image::commit_changes() noexcept {
  for (;;) {
    const Batch batch = take_changes();
    if (const int error = commit_batch(batch)) return error;
    if (batch.count == LogWriter::kMaxUpdates) continue;
    committed_.store(batch.upto, std::memory_order_release);
    return 0;
  }
}

int Image::commit_batch(const Batch& batch) noexcept {
  // Data before what refers to it; and what the log's last entry wanted, which is overwritten in
  // time.
  if (const int error = container_->barrier()) return error;
  if (batch.count == 0) return 0;
  std::array<LogWriter::Update, LogWriter::kMaxUpdates> updates;
  for (size_t i = 0; i < batch.count; ++i) {
    updates.at(i) = {table_->file_offset(sector_numbers_[i]),
                     std::span(sectors_).subspan(i * kSectorSize, kSectorSize)};
  }
  if (const int error = log_->append(std::span(updates).first(batch.count), batch.file_size)) {
    return error;
  }
  if (const int error = container_->barrier()) return error;
  if (!log_in_use_) {
    Header header = headers_.current();
    header.log_guid = log_->guid();
    if (const int error = headers_.update(header)) return error;
    log_in_use_ = true;
  }
  return write_table(batch.count);
}

int Image::write_table(size_t count) noexcept {
  for (size_t i = 0; i < count; ++i) {
    const auto bytes = std::span(sectors_).subspan(i * kSectorSize, kSectorSize);
    const uint64_t offset = table_->file_offset(sector_numbers_[i]);
    if (const int error = container_->write_bytes(offset, bytes)) return error;
  }
  return 0;
}

void Image::close() noexcept {
  if (!writing_.load()) return;
  // Whatever fails, the log still tells what the table must be.
  if (commit() != 0) return;
  // What the last entry wanted is where it belongs, and on stable storage.
  if (container_->barrier() != 0 || !log_in_use_) return;
  Header header = headers_.current();
  header.log_guid = {};
  (void)headers_.update(header);
  (void)container_->truncate(end_);
}

}  // namespace tsvmm::vhdx
