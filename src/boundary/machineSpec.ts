/**
 * What a machine is made of, and what it boots from: native/machine/machine_spec.cc reads it. Addresses and sizes are
 * bytes in JavaScript numbers (guest physical addresses have at most 52 bits).
 */
import type { Descriptor } from './cbor.ts';
import type { PciFunctionSpec } from './deviceSpec.ts';
import type { BoardSpec, VcpuSetup } from './x86_64/boardSpec.ts';

export interface MemoryRange {
  readonly address: number;
  readonly size: number;
}

/** A part of the guest's memory with a backing of its own. All ranges of all zones are page-aligned and disjoint. */
export interface MemoryZoneSpec {
  readonly id: string;
  /** The guest's from the start. */
  readonly regions: readonly MemoryRange[];
  /** The guest's as far as a virtio-mem device hands it out, which finds it by the zone's id. */
  readonly hotplug?: MemoryRange;
  /** Map shared (another process may map the descriptor) rather than private. */
  readonly shared: boolean;
  /** Huge page size in bytes, 0 for ordinary pages. */
  readonly hugepageSize: number;
  readonly prefault: boolean;
  readonly mergeable: boolean;
  readonly thp: boolean;
  readonly reserve: boolean;
  /** NUMA node of the host that the memory comes from, and no other. */
  readonly hostNode?: number;
  /** What backs it, `hotplug` behind the regions; unless `shared`, what the guest writes does not reach it. */
  readonly file?: Descriptor;
}

/** What a machine is made of before anything is known of its payload: enough to start building it. */
export interface MachineSpec {
  readonly memory: {
    readonly zones: readonly MemoryZoneSpec[];
    /** Page-aligned address space, for what is added to the first zone while the machine runs. */
    readonly growth?: MemoryRange;
  };
  /** One entry per boot vCPU, by index. */
  readonly vcpus: readonly VcpuSpec[];
  /** Of all vCPUs that there may ever be. */
  readonly highestVcpuId: number;
}

export interface VcpuSpec extends VcpuSetup {
  /** As the architecture numbers it: an APIC id. */
  readonly id: number;
  /** Host CPUs, empty for any. */
  readonly affinity: readonly number[];
}

/** A vCPU that comes to a machine that runs. */
export interface LateVcpu extends VcpuSpec {
  readonly index: number;
}

/** Where bytes come from that are put into guest memory before the first run. */
export type LoadItem =
  | { readonly address: number; readonly bytes: Uint8Array }
  | { readonly address: number; readonly fd: Descriptor; readonly offset: number; readonly length: number };

/** Everything else a machine needs to start. */
export interface BootSpec extends BoardSpec {
  readonly load: readonly LoadItem[];
  /** The guest waits for machineDebugResume. */
  readonly held?: true;
  /** The guest address of the 16 bytes that `machineSetVmGeneration` changes. */
  readonly vmGeneration: { readonly address: number };
  readonly pci: {
    readonly ecam: number;
    /** By number, at least one. */
    readonly segments: readonly {
      readonly window32: { readonly start: number; readonly size: number };
      readonly window64: { readonly start: number; readonly size: number };
    }[];
    readonly functions: readonly PciFunctionSpec[];
    /** Where a guest tells that its kernel failed; its BAR is 4 KiB. */
    readonly pvpanic?: { readonly slot: number; readonly bar0: number };
  };
}
