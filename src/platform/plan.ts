/**
 * The platform's public face: a configuration and opened descriptors in, what the core needs to build and boot a
 * machine out. Pure apart from small reads of the payload's headers; all of it runs before the guest does.
 */
import type {
  BootSpec,
  CharBackendSpec,
  ImageLayer,
  NativeAddon,
  NetworkSpec,
  PciFunctionSpec,
} from '../native.ts';

/** A disk's image, opened, with what lies below it. */
export interface DiskResource {
  readonly layers: readonly ImageLayer[];
  readonly protectSector0: boolean;
}

/** What a network device is plugged into, opened. */
export interface NetResource {
  readonly network: NetworkSpec;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** What the network carries, if known. */
  readonly mtu?: number;
}

/** A file to be mapped as persistent memory. */
export interface PmemResource {
  readonly fd: number;
  /** Bytes of it, a multiple of 2 MiB. */
  readonly size: number;
}

/** What a configuration names by path, opened. Descriptors stay the caller's. */
export interface BootResources {
  /** The kernel, or the firmware if `firmware` is true. `size` in bytes. */
  readonly kernel: { readonly fd: number; readonly size: number };
  /** Reads a descriptor (`native.readAt`): node:fs would cost the standalone executable 1 ms at start. */
  readonly readAt: NativeAddon['readAt'];
  /** The payload is firmware: command line and initramfs are not handed to it. */
  readonly firmware?: boolean;
  readonly initramfs?: { readonly fd: number; readonly size: number };
  /** One for each of the configuration's disks, in order. */
  readonly disks: readonly DiskResource[];
  /** One for each of the configuration's network devices, in order. */
  readonly nets: readonly NetResource[];
  readonly rng: { readonly fd: number };
  /** Listens at the configuration's path, if it has a vsock. */
  readonly vsock?: { readonly fd: number };
  /** One for each of the configuration's, in order; absent if it has none. */
  readonly pmem?: readonly PmemResource[];
  /** Absent where the configuration's mode is `Off`: the guest then has no such device. */
  readonly serial?: CharBackendSpec;
  readonly console?: CharBackendSpec;
  readonly debugConsole?: CharBackendSpec;
  /** 16 bytes that tell this VM, at this time, from every other. */
  readonly vmGeneration: Uint8Array;
  /** Of the virtio console, 0 by 0 if unknown. */
  readonly consoleSize: { readonly columns: number; readonly rows: number };
}

/** Where a PCI device was put. */
export interface Placement {
  readonly id: string;
  readonly kind: PciFunctionSpec['kind'] | 'pvpanic';
  /** Place in the configuration's array of such devices; 0 for devices that there is one of. */
  readonly index: number;
  /** Device number on bus 0 of segment 0. */
  readonly slot: number;
  readonly bar0: number;
  readonly bar0Is64Bit: boolean;
  readonly bar0Size: number;
  /** Of a device with memory of its own; always 64-bit. */
  readonly bar2?: { readonly base: number; readonly size: number };
}

export interface BootPlan {
  readonly boot: BootSpec;
  /** In order of creation. */
  readonly placements: readonly Placement[];
}

export { planBoot, planMachine } from './x86_64/plan.ts';
