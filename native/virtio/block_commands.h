#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/rate_limiter.h"
#include "disk/disk_image.h"
#include "virtio/block_errors.h"
#include "virtio/block_request.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What the queues of one block device share.
struct BlockContext {
  DiskImage& image;
  VirtioTransport& transport;
  BlockErrors& errors;
  const bool& writeback;  ///< vCPUs change it
  std::string_view serial;
  bool read_only;
  bool protect_sector0;  ///< and the last one from a VHD's footer
  uint64_t features;     ///< that the device offers
  RateLimiter* limiter;  ///< nullptr: no limits
};

/// Checks what a request asks for and makes its disk operation. The status of a request that ends
/// at once; nullopt if its operation is to be started.
[[nodiscard]] std::optional<uint8_t> prepare(const BlockContext& context,
                                             BlockRequest& request) noexcept;

/// The next range of a request whose operation has ended well. False if that was the last.
[[nodiscard]] bool prepare_next_range(BlockRequest& request) noexcept;

}  // namespace tsvmm
