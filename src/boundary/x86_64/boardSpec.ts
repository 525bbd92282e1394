/** What an x86_64 board is made of, as part of a `BootSpec`: native/machine/x86_64/board_spec.cc reads it. */
import type { CharBackendSpec } from '../deviceSpec.ts';

/** How vCPU 0 begins: 32-bit protected mode, paging off, flat segments (PVH and the Linux 32-bit protocol). */
export interface ProtectedModeEntry {
  readonly rip: number;
  readonly rbx: number;
  readonly rsi: number;
  readonly rsp: number;
  /** Where the descriptors of the selectors 0x10 (code), 0x18 (data) and 0x20 (task) were loaded. */
  readonly gdtAddress: number;
  /** Bytes of the table less one. */
  readonly gdtLimit: number;
}

/** What a vCPU is. */
export interface VcpuSetup {
  /** Packed `struct kvm_cpuid_entry2`. */
  readonly cpuid: Uint8Array;
  /** Packed `struct kvm_msr_entry`. */
  readonly msrs: Uint8Array;
}

/** Where vCPU 0 begins, the interrupt controller, clock, power management and the devices that are on no PCI bus. */
export interface BoardSpec {
  readonly entry: ProtectedModeEntry;
  readonly ioapic: { readonly address: number };
  readonly serial?: {
    readonly id: string;
    readonly port: number;
    readonly gsi: number;
    readonly backend: CharBackendSpec;
  };
  readonly debugConsole?: { readonly id: string; readonly port: number; readonly backend: CharBackendSpec };
  /** `port` is the index register, `port + 1` the data register. Sizes are what the CMOS reports. */
  readonly cmos: {
    readonly port: number;
    readonly gsi: number;
    readonly memoryBelow4G: number;
    readonly memoryAbove4G: number;
  };
  /** `eventsPort` has the PM1 event block, behind it PM1 control and general-purpose event block 0. */
  readonly acpi: {
    readonly sleepResetPort: number;
    readonly pmTimerPort: number;
    readonly eventsPort: number;
    readonly sciGsi: number;
  };
  readonly ged: { readonly address: number; readonly gsi: number };
  readonly pciHotplug: { readonly address: number };
  /** Of a machine that may get more memory. `proximity` is the guest's NUMA node of what is added. */
  readonly memoryHotplug?: { readonly address: number; readonly proximity: number };
  /** Absent where vCPUs are there for good. `present` of them are there at boot, of at most `most`. */
  readonly cpuHotplug?: { readonly address: number; readonly present: number; readonly most: number };
}
