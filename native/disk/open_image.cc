#include "disk/open_image.h"

#include "core/error.h"
#include "disk/raw_image.h"

namespace tsvmm {

std::unique_ptr<DiskImage> open_image(std::vector<ImageLayer> layers, const ImageOptions& options) {
  if (layers.empty()) throw Error("EINVAL", "a disk needs an image");
  const ImageFormat format = layers.front().format;
  if (format != ImageFormat::kQcow2 && layers.size() > 1) {
    throw Error("EINVAL", "only a qcow2 image can be an overlay of another one");
  }
  switch (format) {
    case ImageFormat::kRaw:
      return std::make_unique<RawImage>(layers.front().fd.get(), options.direct);
    case ImageFormat::kQcow2:
    case ImageFormat::kFixedVhd:
    case ImageFormat::kVhdx:
      break;
  }
  throw Error("ENOTSUP", "this image format is not supported yet");
}

}  // namespace tsvmm
