#pragma once

#include <cstdint>

#include "core/unique_fd.h"
#include "disk/disk_queue.h"

namespace tsvmm {

/// How an image's bytes are to be read. Decided once, before the guest runs: nothing that a guest
/// writes makes another format of an image.
enum class ImageFormat : uint8_t { kRaw, kQcow2, kFixedVhd, kVhdx };

/// One open file of an image, or of what an image is an overlay of.
struct ImageLayer {
  UniqueFd fd;
  ImageFormat format = ImageFormat::kRaw;
};

struct ImageOptions {
  bool read_only = false;
  bool direct = false;  ///< the first layer is open with O_DIRECT; those below it never are
  bool sparse = true;   ///< space that the guest discards is given back to the host
  DiskEngines engines;  ///< what may move the bytes
};

}  // namespace tsvmm
