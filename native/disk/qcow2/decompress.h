#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "disk/container.h"
#include "disk/qcow2/header.h"

namespace tsvmm::qcow2 {

/// Inflates `from`, which may have something else behind its end, to exactly the size of `to`.
/// False if it cannot be.
[[nodiscard]] bool decompress(Compression compression, std::span<const uint8_t> from,
                              std::span<uint8_t> to) noexcept;

/// Reads compressed clusters and keeps the last one, as it is usually read in pieces. For one
/// thread at a time.
class CompressedReader {
 public:
  CompressedReader(Container& container, const Header& header)
      : container_(container), geometry_(header.geometry), compression_(header.compression) {}

  /// The cluster of an L2 entry: 0 or an errno. `cluster` lasts until the next call.
  [[nodiscard]] int read(uint64_t word, std::span<const uint8_t>& cluster) noexcept;

 private:
  Container& container_;
  const Geometry geometry_;
  const Compression compression_;
  uint64_t word_ = 0;  ///< of what is in cluster_
  std::vector<uint8_t> compressed_;
  std::vector<uint8_t> cluster_;
};

}  // namespace tsvmm::qcow2
