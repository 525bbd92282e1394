#include "hypervisor/kvm/x86_64/host_processor.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <span>

#include "core/error.h"
#include "hypervisor/kvm/x86_64/kvm_x86_abi.h"

namespace tsvmm {
namespace {

/// Leaves 80000002H to 80000006H (name, caches) tell nothing that KVM would have to emulate, and it
/// may leave them empty.
void fill_from_host(std::span<kvm_cpuid_entry2> entries) {
  for (kvm_cpuid_entry2& entry : entries) {
    const bool empty = (entry.eax | entry.ebx | entry.ecx | entry.edx) == 0;
    if (entry.function < 0x80000002 || entry.function > 0x80000006 || !empty) continue;
    __get_cpuid(entry.function, &entry.eax, &entry.ebx, &entry.ecx, &entry.edx);
  }
}

bool has_hardware_virtualization() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool vmx = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & 1U << 5) != 0;
  const bool svm = __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & 1U << 2) != 0;
  return vmx || svm;
}

unsigned physical_address_bits() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) == 0) return 36;
  unsigned bits = eax & 0xff;
  // AMD APM vol. 3, Fn8000_001F: EBX[11:6] is what memory encryption takes, in force if SYSCFG.MEME
  // is set, which user space cannot read; taking the reduced width is right in both cases.
  if (__get_cpuid(0x8000001f, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1U) != 0)
    bits -= ebx >> 6 & 0x3f;
  return bits;
}

unsigned tsc_khz() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // SDM vol. 3 §18.17: CPUID.80000007H:EDX[8] tells of an invariant TSC, leaf 15H of its ratio to a
  // known crystal.
  if (__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) == 0 || (edx & 1U << 8) == 0) return 0;
  if (__get_cpuid(0x15, &eax, &ebx, &ecx, &edx) == 0 || eax == 0 || ebx == 0 || ecx == 0) return 0;
  return static_cast<unsigned>(uint64_t{ecx} * ebx / eax / 1000);
}

}  // namespace

ProcessorFacts read_processor_facts() noexcept {
  return {has_hardware_virtualization(), physical_address_bits(), tsc_khz()};
}

std::vector<uint8_t> read_supported_cpuid(const KvmDevice& kvm) {
  // The count that KVM will want is not known beforehand; 256 is above what any processor so far
  // has needed.
  for (uint32_t count = 256; count <= 4096; count *= 2) {
    KvmEntryList<kvm_cpuid_entry2> list(count);
    list.header().count = count;
    if (::ioctl(kvm.fd(), kKvmGetSupportedCpuid, list.request()) == 0) {
      fill_from_host({list.entries(), list.header().count});
      const auto* first = reinterpret_cast<const uint8_t*>(list.entries());
      return {first, first + list.header().count * sizeof(kvm_cpuid_entry2)};
    }
    if (errno != E2BIG) break;
  }
  throw Error::from_errno("KVM_GET_SUPPORTED_CPUID", errno);
}

}  // namespace tsvmm
