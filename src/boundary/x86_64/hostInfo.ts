/** What an x86_64 host offers. */
import type { HypervisorInfo } from '../host.ts';

export interface HostInfo extends HypervisorInfo {
  /**
   * KVM_GET_SUPPORTED_CPUID as packed `struct kvm_cpuid_entry2` (40 bytes each). Reading it waits for the thread that
   * finds it out, and throws if that could not.
   */
  readonly supportedCpuid: Uint8Array;
  /** Host physical address width in bits (CPUID 0x80000008, reduced for memory encryption). */
  readonly physBits: number;
  /** TSC frequency in kHz, 0 when the host's is not invariant. */
  readonly tscKhz: number;
}

export interface HostInfoCalls {
  /** Throws if KVM cannot be used. Begins to read the CPUID table on a thread, so an early call saves time later. */
  hostInfo(): HostInfo;
}
