#include "machine/image_loader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "core/error.h"

namespace tsvmm {
namespace {

std::span<uint8_t> target(const GuestMemory& memory, GuestAddress address, uint64_t length) {
  const auto bytes = memory.slice(address, length);
  if (!bytes) {
    throw Error("ERR_TSVMM_LOAD", std::to_string(length) +
                                      " bytes do not fit into guest RAM at address " +
                                      std::to_string(address));
  }
  return *bytes;
}

void read_fully(const LoadFile& item, std::span<uint8_t> into, const Cancellation& cancellation) {
  // After which it is looked whether to go on.
  constexpr size_t kMaxChunk = size_t{64} << 20;
  size_t done = 0;
  while (done < into.size()) {
    cancellation.check();
    const size_t chunk = std::min(into.size() - done, kMaxChunk);
    const ssize_t count =
        ::pread(item.fd.get(), into.data() + done, chunk, static_cast<off_t>(item.offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error::from_errno("reading an image", errno);
    if (count == 0) throw Error("ERR_TSVMM_LOAD", "an image file is shorter than its headers say");
    done += static_cast<size_t>(count);
  }
}

void load(const GuestMemory& memory, const LoadBytes& item, const Cancellation& /*unused*/) {
  std::ranges::copy(item.bytes, target(memory, item.address, item.bytes.size()).begin());
}

void load(const GuestMemory& memory, const LoadFile& item, const Cancellation& cancellation) {
  read_fully(item, target(memory, item.address, item.length), cancellation);
}

}  // namespace

void load_images(const GuestMemory& memory, const std::vector<LoadItem>& items,
                 const Cancellation& cancellation) {
  for (const LoadItem& item : items) {
    std::visit([&](const auto& any) { load(memory, any, cancellation); }, item);
  }
}

}  // namespace tsvmm
