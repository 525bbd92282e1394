#include "hypervisor/msi_range.h"

#include "hypervisor/x86_64/apic.h"

namespace tsvmm {

MsiRange msi_range() noexcept { return {.first = kLocalApicAddress, .last = kMsiEnd - 1}; }

}  // namespace tsvmm
