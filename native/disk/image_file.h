#pragma once

#include "core/unique_fd.h"
#include "disk/raw_image.h"

namespace tsvmm {

/// What one user of an image (a queue of a device, a format) does its I/O through.
///
/// An open file description of its own, where the host allows that: Linux tells each of them once
/// that a page could not be written, so what one queue's sync has heard of would otherwise be
/// missing from another one's.
class ImageFile {
 public:
  /// The image outlives it.
  explicit ImageFile(const RawImage& image);

  [[nodiscard]] const RawImage& image() const { return image_; }
  [[nodiscard]] int fd() const { return own_.valid() ? own_.get() : image_.fd(); }

 private:
  const RawImage& image_;
  UniqueFd own_;
};

}  // namespace tsvmm
