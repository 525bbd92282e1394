#include "disk/vhd_image.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "disk/sync_io.h"

namespace tsvmm {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint32_t kFixedDisk = 2;
constexpr std::array<char, 8> kCookie{'c', 'o', 'n', 'e', 'c', 't', 'i', 'x'};

// "Hard Disk Footer Format"; big-endian.
constexpr size_t kVersionOffset = 12;
constexpr size_t kCurrentSizeOffset = 48;
constexpr size_t kDiskTypeOffset = 60;
constexpr size_t kChecksumOffset = 64;
constexpr uint32_t kVersion = 0x00010000;

using Footer = std::array<uint8_t, kSector>;

uint32_t load_u32(const Footer& footer, size_t offset) {
  return __builtin_bswap32(load<uint32_t>(footer, offset));
}
uint64_t load_u64(const Footer& footer, size_t offset) {
  return __builtin_bswap64(load<uint64_t>(footer, offset));
}

/// The complement of the sum of all other bytes.
uint32_t checksum_of(const Footer& footer) {
  uint32_t sum = 0;
  for (size_t i = 0; i < footer.size(); ++i) {
    if (i < kChecksumOffset || i >= kChecksumOffset + 4) sum += footer.at(i);
  }
  return ~sum;
}

Footer read_footer(const RawImage& image) {
  Footer footer{};
  iovec buffer{footer.data(), footer.size()};
  DiskOperation operation{.kind = DiskOperation::Kind::kRead,
                          .offset = image.size() - kSector,
                          .length = kSector,
                          .buffers = {&buffer, 1}};
  run_synchronously(ImageFile(image), operation);
  if (operation.error != 0) throw Error::from_errno("reading the VHD footer", operation.error);
  return footer;
}

Error damage(const char* what) {
  return {"ERR_TSVMM_IMAGE", std::string("the VHD image is damaged: ") + what};
}

/// The disk's size, from a footer that makes sense.
uint64_t read_size(const RawImage& image) {
  if (image.size() < 2 * kSector) throw damage("it is too short");
  const Footer footer = read_footer(image);
  if (std::memcmp(footer.data(), kCookie.data(), kCookie.size()) != 0) {
    throw damage("it has no footer");
  }
  if (load_u32(footer, kChecksumOffset) != checksum_of(footer)) {
    throw damage("the checksum of its footer is wrong");
  }
  if (load_u32(footer, kVersionOffset) != kVersion ||
      load_u32(footer, kDiskTypeOffset) != kFixedDisk) {
    throw Error("ENOTSUP", "only fixed VHD images are supported");
  }
  const uint64_t size = load_u64(footer, kCurrentSizeOffset);
  if (size == 0 || size % kSector != 0 || size > image.size() - kSector) {
    throw damage("its disk cannot have that size");
  }
  return size;
}

}  // namespace

VhdImage::VhdImage(int fd, bool direct, DiskEngines engines)
    : data_(fd, direct, engines), size_(read_size(data_)) {}

DiskLimits VhdImage::limits() const noexcept {
  DiskLimits limits = data_.limits();
  limits.logical_block_size = kSector;
  return limits;
}

void VhdImage::resize(uint64_t /*bytes*/) {
  throw Error("ENOTSUP", "a VHD image cannot be resized while it is used");
}

}  // namespace tsvmm
