#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "disk/disk_image.h"
#include "disk/image_file.h"
#include "disk/raw_image.h"
#include "disk/sync_record.h"

namespace tsvmm {

/// The file that an image is kept in. Apart from what its queues do, calls block; they return 0 or
/// an errno, and any thread may make them.
class Container {
 public:
  virtual ~Container() = default;
  Container() = default;
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  /// Bytes that are there.
  [[nodiscard]] virtual uint64_t size() const noexcept = 0;
  /// Of its I/O.
  [[nodiscard]] virtual DiskLimits limits() const noexcept = 0;
  /// Whether what lies between an old end and a new one reads as zeros.
  [[nodiscard]] virtual bool grows() const noexcept = 0;

  /// What lies beyond the end reads as zeros.
  [[nodiscard]] virtual int read(uint64_t offset, std::span<uint8_t> bytes) noexcept = 0;
  /// Inside the size. The buffers are consumed.
  [[nodiscard]] virtual int write(uint64_t offset, std::span<iovec> buffers) noexcept = 0;
  /// Tries to put on stable storage what has been written so far. Formats use barrier().
  [[nodiscard]] virtual int sync() noexcept = 0;
  /// Makes it at least so large.
  [[nodiscard]] virtual int grow(uint64_t bytes) noexcept = 0;
  /// Cuts off what lies beyond, if the file is of a kind that can grow.
  [[nodiscard]] virtual int truncate(uint64_t bytes) noexcept = 0;
  /// Gives space back. What the range holds does not matter any more.
  virtual void discard(uint64_t offset, uint64_t length) noexcept = 0;

  /// For data, at offsets inside the size. Throws Error.
  [[nodiscard]] virtual std::unique_ptr<DiskQueue> make_queue(uint16_t depth) = 0;

  /// What has been written so far is on stable storage afterwards, or the call fails, for good.
  [[nodiscard]] int barrier() noexcept;
  /// Of barrier(), and of a format that could not put its metadata on stable storage.
  [[nodiscard]] SyncRecord& syncs() noexcept { return syncs_; }
  [[nodiscard]] int write_bytes(uint64_t offset, std::span<const uint8_t> bytes) noexcept;

 private:
  SyncRecord syncs_;
};

/// A regular file or a block device.
class FileContainer final : public Container {
 public:
  /// Duplicates `fd`. Throws Error.
  FileContainer(int fd, bool direct, DiskEngines engines = {});

  [[nodiscard]] uint64_t size() const noexcept override { return image_.size(); }
  [[nodiscard]] DiskLimits limits() const noexcept override;
  [[nodiscard]] bool grows() const noexcept override { return is_file_; }
  [[nodiscard]] int read(uint64_t offset, std::span<uint8_t> bytes) noexcept override;
  [[nodiscard]] int write(uint64_t offset, std::span<iovec> buffers) noexcept override;
  [[nodiscard]] int sync() noexcept override;
  [[nodiscard]] int grow(uint64_t bytes) noexcept override;
  [[nodiscard]] int truncate(uint64_t bytes) noexcept override;
  void discard(uint64_t offset, uint64_t length) noexcept override;
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override;

 private:
  [[nodiscard]] bool block_device_has(uint64_t bytes) noexcept;

  RawImage image_;
  const ImageFile file_;
  const bool is_file_;
};

}  // namespace tsvmm
