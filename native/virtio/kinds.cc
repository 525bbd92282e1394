#include <array>

#include "virtio/device_kind.h"

// One line for each kind of device: NAME.cc ends in the function NAME_kind().
#define TSVMM_DEVICE_KINDS(kind)                                                         \
  kind(block) kind(net) kind(rng) kind(console) kind(watchdog) kind(balloon) kind(vsock) \
      kind(pmem) kind(clock) kind(mem) kind(iommu)

namespace tsvmm {

#define TSVMM_DECLARE_KIND(name) DeviceKind name##_kind();
TSVMM_DEVICE_KINDS(TSVMM_DECLARE_KIND)

std::span<const DeviceKind> device_kinds() {
#define TSVMM_CALL_KIND(name) name##_kind(),
  static const std::array kinds{TSVMM_DEVICE_KINDS(TSVMM_CALL_KIND)};
  return kinds;
}

}  // namespace tsvmm
