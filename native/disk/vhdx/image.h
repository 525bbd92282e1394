#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/cancellation.h"
#include "disk/disk_image.h"
#include "disk/vhdx/block_table.h"
#include "disk/vhdx/header.h"
#include "disk/vhdx/layout.h"
#include "disk/vhdx/log_writer.h"

namespace tsvmm::vhdx {

/// Where a range of the disk is.
struct Extent {
  bool is_data = false;  ///< at `file_offset`; otherwise it reads as zeros
  uint64_t file_offset = 0;
  uint64_t length = 0;  ///< bytes, of those that were asked for
};

/// A VHDX image, dynamic or fixed ([MS-VHDX]); differencing ones are refused.
///
/// Data goes to the container's own queue at another offset. A write to a block that is not there
/// only makes the file longer and changes the table in memory; a flush writes the table's changes
/// through the log, so that at any moment the file is whole.
class Image final : public DiskImage {
 public:
  /// Replays the log if there is need. Throws Error, also for an image that needs that but is
  /// `read_only`.
  Image(std::unique_ptr<Container> container, bool read_only,
        const Cancellation& cancellation = Cancellation::never());
  /// Commits what is left, and marks the log as empty.
  ~Image() override;

  [[nodiscard]] uint64_t size() const noexcept override { return layout_.disk_size; }
  [[nodiscard]] DiskLimits limits() const noexcept override;
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override;
  /// Always throws Error.
  void resize(uint64_t bytes) override;

  [[nodiscard]] Container& container() noexcept { return *container_; }

  /// Finds the front of a range that lies inside the disk: 0 or an errno. With `for_write` it is
  /// data afterwards. Any thread.
  [[nodiscard]] int find(uint64_t offset, uint64_t length, bool for_write, Extent& extent) noexcept;
  /// True if a flush needs commit() rather than one of the container. Any thread.
  [[nodiscard]] bool has_changes() const noexcept {
    return changes_.load(std::memory_order_acquire) != committed_.load(std::memory_order_acquire);
  }
  /// Puts all that was written, and the table, on stable storage: 0 or an errno. A failure is for
  /// good: the log stays as it is, as what it holds may not be where it belongs. Any thread; waits.
  [[nodiscard]] int commit() noexcept;

 private:
  [[nodiscard]] int find_entry(uint64_t index, uint64_t& entry) noexcept;
  [[nodiscard]] int allocate(uint64_t index, uint64_t& entry) noexcept;
  [[nodiscard]] int begin_writing() noexcept;
  /// What take_changes() took.
  struct Batch {
    size_t count = 0;        ///< sectors
    uint64_t upto = 0;       ///< changes that are in it, or were committed before
    uint64_t file_size = 0;  ///< that the file had then at least
  };
  [[nodiscard]] Batch take_changes() noexcept;
  [[nodiscard]] int commit_changes() noexcept;
  [[nodiscard]] int commit_batch(const Batch& batch) noexcept;
  [[nodiscard]] int write_table(size_t count) noexcept;
  void close() noexcept;

  const std::unique_ptr<Container> container_;
  HeaderPair headers_;  ///< under commit_mutex_, once made
  Layout layout_;
  std::optional<BlockTable> table_;

  std::mutex mutex_;                     ///< guards changes of the table, and the end of the file
  uint64_t end_ = 0;                     ///< where the next block goes
  std::atomic<bool> writing_ = false;    ///< the headers tell that the file is being changed
  std::atomic<uint64_t> changes_ = 0;    ///< of the table
  std::atomic<uint64_t> committed_ = 0;  ///< those on stable storage

  std::mutex commit_mutex_;  ///< before mutex_
  std::optional<LogWriter> log_;
  bool log_in_use_ = false;       ///< the headers name it
  std::vector<uint8_t> sectors_;  ///< content of the table's sectors that are being committed
  std::vector<uint64_t> sector_numbers_;
};

}  // namespace tsvmm::vhdx
