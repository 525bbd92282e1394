#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tsvmm {

/// Makes `last` longer by `next` if that lies right behind it, as drivers often have it: one piece
/// costs less than two. False if it does not.
inline bool extend_vector(iovec& last, const iovec& next) {
  if (static_cast<uint8_t*>(last.iov_base) + last.iov_len != next.iov_base) return false;
  last.iov_len += next.iov_len;
  return true;
}

/// Copies `size` bytes from the start of one vector to `offset` of another, as far as there are
/// bytes and room for them. The two may be the same memory if each byte moves towards the front.
inline void copy_vectors(std::span<const iovec> from, std::span<const iovec> to, size_t size,
                         size_t offset = 0) {
  size_t from_done = 0;
  size_t to_done = offset;
  while (size != 0 && !from.empty() && !to.empty()) {
    if (to_done >= to[0].iov_len) {
      to_done -= to[0].iov_len;
      to = to.subspan(1);
      continue;
    }
    const size_t step = std::min({size, from[0].iov_len - from_done, to[0].iov_len - to_done});
    std::memmove(static_cast<uint8_t*>(to[0].iov_base) + to_done,
                 static_cast<const uint8_t*>(from[0].iov_base) + from_done, step);
    size -= step;
    from_done += step;
    to_done += step;
    if (from_done == from[0].iov_len) {
      from_done = 0;
      from = from.subspan(1);
    }
  }
}

}  // namespace tsvmm
