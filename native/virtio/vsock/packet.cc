#include "virtio/vsock/packet.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/bytes.h"
#include "virtio/chain_bytes.h"

namespace tsvmm::vsock {

std::optional<Header> read_header(std::span<const GuestBuffer> buffers) noexcept {
  std::array<uint8_t, kHeaderSize> bytes;
  if (gather(buffers, bytes) != bytes.size()) return std::nullopt;
  return load<Header>(bytes);
}

uint64_t total_length(std::span<const iovec> pieces) noexcept {
  uint64_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  return total;
}

uint64_t append_pieces(std::span<const GuestBuffer> buffers, uint64_t skip, uint64_t length,
                       std::vector<iovec>& pieces) {
  uint64_t appended = 0;
  for (const GuestBuffer& buffer : buffers) {
    if (appended == length) break;
    if (skip >= buffer.length) {
      skip -= buffer.length;
      continue;
    }
    const uint64_t size = std::min<uint64_t>(buffer.length - skip, length - appended);
    pieces.push_back({buffer.host + skip, size});
    appended += size;
    skip = 0;
  }
  return appended;
}

void write_header(std::span<const iovec> pieces, const Header& header) noexcept {
  const auto* from = reinterpret_cast<const uint8_t*>(&header);
  size_t copied = 0;
  for (const iovec& piece : pieces) {
    const size_t size = std::min(piece.iov_len, kHeaderSize - copied);
    std::memcpy(piece.iov_base, from + copied, size);
    copied += size;
  }
}

size_t advance(std::span<iovec> pieces, size_t first, uint64_t count) noexcept {
  while (first < pieces.size() && count >= pieces[first].iov_len) {
    count -= pieces[first].iov_len;
    ++first;
  }
  if (count != 0 && first < pieces.size()) {
    pieces[first].iov_base = static_cast<uint8_t*>(pieces[first].iov_base) + count;
    pieces[first].iov_len -= count;
  }
  return first;
}

}  // namespace tsvmm::vsock
