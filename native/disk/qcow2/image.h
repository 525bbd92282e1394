#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/cancellation.h"
#include "disk/container.h"
#include "disk/disk_image.h"
#include "disk/qcow2/cluster_writer.h"
#include "disk/qcow2/metadata.h"

namespace tsvmm::qcow2 {

struct ImageSettings {
  bool read_only = false;
  bool sparse = true;  ///< space that the guest discards is given back to the host
};

/// A qcow2 image, version 2 or 3, perhaps on top of a backing image.
///
/// What is in the tables' cache and lies in one piece goes to the container's own queue at another
/// offset, from any number of threads at a time. All else (new clusters, compressed ones, zeros to
/// be, flushes after changes) blocks the queue that asks for it, one at a time where it changes the
/// tables. L2 tables take up to 16 MiB of memory, an L1 table up to 32 MiB (1/8192 of the tables
/// below it), refcounts up to 9 MiB.
class Image final : public DiskImage {
 public:
  /// `backing` is required if and only if the image has a backing file. Throws Error.
  Image(std::unique_ptr<Container> container, std::unique_ptr<DiskImage> backing,
        ImageSettings settings, const Cancellation& cancellation = Cancellation::never());
  /// Commits what is left to.
  ~Image() override;

  [[nodiscard]] uint64_t size() const noexcept override {
    return size_.load(std::memory_order_acquire);
  }
  [[nodiscard]] DiskLimits limits() const noexcept override;
  [[nodiscard]] std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override;
  /// Only grows.
  void resize(uint64_t bytes) override;

  [[nodiscard]] Container& container() noexcept { return *container_; }
  [[nodiscard]] Metadata& metadata() noexcept { return metadata_; }
  [[nodiscard]] ClusterWriter& writer() noexcept { return writer_; }
  [[nodiscard]] DiskImage* backing() noexcept { return backing_.get(); }
  [[nodiscard]] const ImageSettings& settings() const noexcept { return settings_; }

 private:
  const ImageSettings settings_;
  const std::unique_ptr<Container> container_;
  const std::unique_ptr<DiskImage> backing_;
  Metadata metadata_;
  ClusterWriter writer_;
  std::atomic<uint64_t> size_ = 0;
};

}  // namespace tsvmm::qcow2
