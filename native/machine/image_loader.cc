#include "machine/image_loader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "core/descriptor_name.h"
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

Error reading_failed(const LoadFile& item, int error) {
  return Error::from_errno("reading " + descriptor_name(item.fd.get()), error);
}

/// What is read of it was inside of it when it was opened.
Error ends_early(const LoadFile& item, size_t done) {
  return {"ERR_TSVMM_LOAD", descriptor_name(item.fd.get()) + " has become shorter: it ends after " +
                                std::to_string(item.offset + done) + " bytes, and " +
                                std::to_string(item.offset + item.length) + " are needed"};
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
    if (count < 0) throw reading_failed(item, errno);
    if (count == 0) throw ends_early(item, done);
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
