#pragma once

#include <cstdint>
#include <memory>

#include "disk/disk_image.h"
#include "disk/raw_image.h"

namespace tsvmm {

/// A fixed VHD: raw data with a footer of one sector behind it, which nothing here writes
/// ("Virtual Hard Disk Image Format Specification").
class VhdImage final : public DiskImage {
 public:
  /// Duplicates `fd`. Throws Error if there is no footer, or it is not that of a fixed disk.
  VhdImage(int fd, bool direct, DiskEngines engines = {});

  [[nodiscard]] uint64_t size() const noexcept override { return size_; }
  /// Sectors of 512 bytes, as the format has them, whatever the image lies on.
  [[nodiscard]] DiskLimits limits() const noexcept override;
  /// Users stay inside size().
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
    return data_.make_queue(depth);
  }
  /// Always throws Error.
  void resize(uint64_t bytes) override;

 private:
  RawImage data_;
  const uint64_t size_;
};

}  // namespace tsvmm
