#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/unique_fd.h"
#include "disk/disk_image.h"
#include "disk/sync_record.h"

namespace tsvmm {

/// ftruncate(2), also if a signal comes: 0 or an errno.
[[nodiscard]] int change_file_size(int fd, uint64_t bytes) noexcept;

/// An open raw image: a regular file or a block device, and what its host says of it.
class RawImage : public DiskImage {
 public:
  /// Duplicates `fd`. Throws Error if it is neither a regular file nor a block device.
  RawImage(int fd, bool direct, DiskEngines engines = {});

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const DiskEngines& engines() const { return engines_; }
  [[nodiscard]] bool is_block_device() const { return block_device_; }
  /// Past the page cache (O_DIRECT).
  [[nodiscard]] bool is_direct() const { return direct_; }
  /// In a tmpfs, where everything is copied at once, with O_DIRECT too: the kernel's ways not to
  /// wait only get in the way there.
  [[nodiscard]] bool is_in_memory() const { return in_memory_; }
  /// Whether the file system can say at once that a read would have to wait (RWF_NOWAIT);
  /// overlayfs, for one, cannot.
  [[nodiscard]] bool reads_without_waiting() const noexcept;
  [[nodiscard]] uint64_t size() const noexcept override {
    return size_.load(std::memory_order_acquire);
  }
  [[nodiscard]] DiskLimits limits() const noexcept override;
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override;
  /// A block device has to have that size already.
  void resize(uint64_t bytes) override;

  /// What offsets and lengths must be multiples of: a power of two of bytes, 1 without O_DIRECT.
  [[nodiscard]] uint32_t offset_alignment() const { return offset_alignment_; }
  /// The same for buffer addresses.
  [[nodiscard]] uint32_t memory_alignment() const { return memory_alignment_; }
  /// Held while a block is read, changed in part and written back, which direct I/O cannot do in
  /// one, while a part of a block is zeroed or given back, and while the file's size changes.
  [[nodiscard]] std::mutex& partial_blocks() const { return partial_blocks_; }
  /// What became of the syncs of all its users.
  [[nodiscard]] SyncRecord& syncs() const { return syncs_; }
  /// A regular file's: 0 or an errno.
  [[nodiscard]] int set_size(uint64_t bytes) noexcept;
  /// The host may have given a block device another size since: the one that it has now.
  uint64_t look_at_block_device();

 private:
  [[nodiscard]] uint64_t block_device_size() const;
  void read_block_device();
  void read_direct_alignment();
  void read_discard_limits(dev_t device);

  UniqueFd fd_;
  const bool direct_;
  const DiskEngines engines_;
  mutable std::mutex partial_blocks_;
  mutable SyncRecord syncs_;
  std::atomic<uint64_t> size_ = 0;
  bool block_device_ = false;
  bool in_memory_ = false;
  uint32_t offset_alignment_ = 1;
  uint32_t memory_alignment_ = 1;
  uint32_t logical_block_size_ = 512;
  uint32_t physical_block_size_ = 512;
  uint32_t discard_granularity_ = 0;
};

}  // namespace tsvmm
