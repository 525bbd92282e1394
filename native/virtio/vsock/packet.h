#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "virtio/queue.h"
#include "virtio/vsock/protocol.h"

/// Packets in guest memory: a header and its payload, split into buffers in any way
/// (virtio 1.2 §2.6.4).
namespace tsvmm::vsock {

/// A copy of the header that begins at the first buffer; nullopt if there is not room for one.
std::optional<Header> read_header(std::span<const GuestBuffer> buffers) noexcept;

/// Bytes of all pieces together.
uint64_t total_length(std::span<const iovec> pieces) noexcept;

/// Appends the pieces of [skip, skip + length) to `pieces`, which is not made to grow beyond its
/// capacity as long as that has room for each buffer. Returns how many bytes they have: less than
/// `length` if the buffers end before.
uint64_t append_pieces(std::span<const GuestBuffer> buffers, uint64_t skip, uint64_t length,
                       std::vector<iovec>& pieces);

/// Fills `pieces`, which have room for it, with `header`.
void write_header(std::span<const iovec> pieces, const Header& header) noexcept;

/// Takes `count` bytes off the front of `pieces`, from index `first` on; returns the index of the
/// first piece that has any left.
size_t advance(std::span<iovec> pieces, size_t first, uint64_t count) noexcept;

}  // namespace tsvmm::vsock
