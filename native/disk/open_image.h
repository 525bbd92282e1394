#pragma once

#include <memory>
#include <vector>

#include "core/cancellation.h"
#include "disk/disk_image.h"
#include "disk/image_spec.h"

namespace tsvmm {

/// Makes an image of its layers. The first is the one that is written; each is an overlay of the
/// next, down to one that stands for itself. Only kQcow2 can be an overlay. Throws Error: what is
/// in the file is not what its format asks for, or asks for something that is not supported. What
/// takes long at that (a log to replay, refcounts to repair) ends with ECANCELED when it is to.
std::unique_ptr<DiskImage> open_image(std::vector<ImageLayer> layers, const ImageOptions& options,
                                      const Cancellation& cancellation = Cancellation::never());

}  // namespace tsvmm
