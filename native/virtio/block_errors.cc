#include "virtio/block_errors.h"

#include <string>

#include "core/error.h"

namespace tsvmm {
namespace {

std::string describe(DiskOperation::Kind kind, int error) {
  using Kind = DiskOperation::Kind;
  const auto failed = [error](const char* what) {
    return std::string(Error::from_errno(what, error).what());
  };
  switch (kind) {
    case Kind::kRead:
      return failed("reading from the image failed");
    case Kind::kWrite:
      return failed("writing to the image failed");
    case Kind::kFlush:
      return failed("flushing the image failed") +
             ". What the guest wrote since its last flush may be lost, and no flush succeeds any "
             "more before the VM is started anew";
    case Kind::kDiscard:
      return failed("giving back space of the image failed");
    case Kind::kWriteZeroes:
      return failed("writing zeros to the image failed");
  }
  return failed("the image failed");
}

}  // namespace

void BlockErrors::report(DiskOperation::Kind kind, int error, VirtioTransport& transport) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!told_.emplace(kind, error).second) return;
  }
  transport.warn(describe(kind, error));
}

}  // namespace tsvmm
