#include "disk/vhdx/header.h"

#include <sys/random.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "disk/vhdx/damage.h"

namespace tsvmm::vhdx {
namespace {

constexpr size_t kChecksumOffset = 4;

/// A header that is whole.
std::optional<Header> read_header(Container& container, uint64_t offset) {
  std::vector<uint8_t> bytes(kSectorSize);
  check(container.read(offset, bytes), "reading a VHDX header");
  const auto header = load<Header>(bytes);
  store<uint32_t>(bytes, 0, kChecksumOffset);
  if (header.signature != kHeaderSignature || crc32c(bytes) != header.checksum) return std::nullopt;
  return header;
}

/// §2.2.2: log offset and length are multiples of 1 MiB.
void check_log(const Header& header) {
  if (header.log_offset % kMib != 0 || header.log_length % kMib != 0 || header.log_offset < kMib ||
      header.log_offset > kMaxFileSize) {
    throw damage("its log is not where it can be");
  }
}

}  // namespace

Guid new_guid() noexcept {
  Guid guid;
  (void)::getrandom(guid.bytes.data(), guid.bytes.size(), 0);
  // RFC 4122 §4.4: version 4.
  guid.bytes[7] = static_cast<uint8_t>((guid.bytes[7] & 0x0f) | 0x40);
  guid.bytes[8] = static_cast<uint8_t>((guid.bytes[8] & 0x3f) | 0x80);
  return guid;
}

HeaderPair::HeaderPair(Container& container) : container_(container) {
  bool found = false;
  for (size_t i = 0; i < kHeaderOffsets.size(); ++i) {
    const std::optional<Header> header = read_header(container, kHeaderOffsets[i]);
    if (!header || (found && header->sequence_number <= current_.sequence_number)) continue;
    current_ = *header;
    current_index_ = i;
    found = true;
  }
  if (!found) throw damage("it has no header that is whole");
  if (current_.version != kVersion) {
    throw Error("ENOTSUP",
                "VHDX version " + std::to_string(current_.version) + " is not supported");
  }
  check_log(current_);
}

int HeaderPair::update(Header header) noexcept {
  header.sequence_number = current_.sequence_number + 1;
  header.checksum = 0;
  alignas(kSectorSize) std::array<uint8_t, kSectorSize> bytes{};
  store(std::span<uint8_t>(bytes), header);
  header.checksum = crc32c(bytes);
  store(std::span<uint8_t>(bytes), header);
  const size_t index = 1 - current_index_;
  if (const int error = container_.write_bytes(kHeaderOffsets[index], bytes)) return error;
  if (const int error = container_.barrier()) return error;
  current_ = header;
  current_index_ = index;
  return 0;
}

}  // namespace tsvmm::vhdx
