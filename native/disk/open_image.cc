#include "disk/open_image.h"

#include <iterator>

#include "core/error.h"
#include "disk/qcow2/image.h"
#include "disk/raw_image.h"
#include "disk/vhd_image.h"
#include "disk/vhdx/image.h"

namespace tsvmm {
namespace {

std::unique_ptr<Container> open_container(const ImageLayer& layer, const ImageOptions& options) {
  return std::make_unique<FileContainer>(layer.fd.get(), options.direct, options.engines);
}

std::unique_ptr<DiskImage> open_qcow2(std::vector<ImageLayer> layers, const ImageOptions& options,
                                      const Cancellation& cancellation) {
  const ImageLayer layer = std::move(layers.front());
  std::unique_ptr<DiskImage> backing;
  if (layers.size() > 1) {
    std::vector<ImageLayer> below(std::make_move_iterator(layers.begin() + 1),
                                  std::make_move_iterator(layers.end()));
    backing = open_image(
        std::move(below),
        {.read_only = true, .direct = false, .sparse = false, .engines = options.engines},
        cancellation);
  }
  return std::make_unique<qcow2::Image>(
      open_container(layer, options), std::move(backing),
      qcow2::ImageSettings{.read_only = options.read_only, .sparse = options.sparse}, cancellation);
}

}  // namespace

std::unique_ptr<DiskImage> open_image(std::vector<ImageLayer> layers, const ImageOptions& options,
                                      const Cancellation& cancellation) {
  if (layers.empty()) throw Error("EINVAL", "a disk needs an image");
  const ImageFormat format = layers.front().format;
  if (format != ImageFormat::kQcow2 && layers.size() > 1) {
    throw Error("EINVAL", "only a qcow2 image can be an overlay of another one");
  }
  switch (format) {
    case ImageFormat::kRaw:
      return std::make_unique<RawImage>(layers.front().fd.get(), options.direct, options.engines);
    case ImageFormat::kQcow2:
      return open_qcow2(std::move(layers), options, cancellation);
    case ImageFormat::kFixedVhd:
      return std::make_unique<VhdImage>(layers.front().fd.get(), options.direct, options.engines);
    case ImageFormat::kVhdx:
      return std::make_unique<vhdx::Image>(open_container(layers.front(), options),
                                           options.read_only, cancellation);
  }
  throw Error("EINVAL", "there is no such image format");
}

}  // namespace tsvmm
