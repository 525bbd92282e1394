/**
 * The platform's public face: a configuration and opened descriptors in, what the core needs to build and boot a
 * machine out. Pure apart from small reads of the payload's headers; all of it runs before the guest does.
 */
import type { BootSpec, CharBackendSpec, NativeAddon } from '../native.ts';
import type { Bus } from './bus.ts';
import type { PciSegment } from './segments.ts';

/** What a configuration names by path, opened. Descriptors stay the caller's. */
export interface BootResources {
  /** The kernel, or the firmware if `firmware` is true. `size` in bytes. */
  readonly kernel: { readonly fd: number; readonly size: number };
  /** Reads a descriptor (`native.readAt`): node:fs would cost the standalone executable 1 ms at start. */
  readonly readAt: NativeAddon['readAt'];
  /** The payload is firmware: command line and initramfs are not handed to it. */
  readonly firmware?: boolean;
  readonly initramfs?: { readonly fd: number; readonly size: number };
  /**
   * By the name of the kind, one for each of the configuration's devices, in order: what its record's `open` returned.
   */
  readonly devices: Readonly<Record<string, readonly unknown[]>>;
  /** Numbers that devices which are only switched on had on the bus of the machine before, by their names. */
  readonly keptSlots?: ReadonlyMap<string, number>;
  /** Absent where the configuration's mode is `Off`: the guest then has no such device. */
  readonly serial?: CharBackendSpec;
  readonly debugConsole?: CharBackendSpec;
  /** For a machine with several PCI segments. */
  readonly renderPciSegments?: (segments: readonly PciSegment[]) => Uint8Array;
  /** 16 bytes that tell this VM, at this time, from every other. */
  readonly vmGeneration: Uint8Array;
}

export interface BootPlan {
  readonly boot: BootSpec;
  /** Where devices are, in order of creation, and what is left for others. */
  readonly bus: Bus;
  /** The payload is a Linux kernel. */
  readonly isLinux: boolean;
}

export { planBoot, planLateVcpus, planMachine } from './x86_64/plan.ts';

/** What a machine with several PCI segments needs of `BootResources`: few have them. */
export function loadPciSegments(): Promise<Pick<BootResources, 'renderPciSegments'>> {
  return import('./x86_64/acpi/pciSegments.ts');
}
