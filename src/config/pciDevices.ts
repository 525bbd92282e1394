/** The PCI devices that a configuration makes. */
import type { VmConfig } from './vmConfig.ts';

/** What may be asked for of a PCI device. */
export interface PciWishes {
  readonly id?: string;
  readonly pci_device_id?: number;
}

/** Every PCI device of the machine besides the host bridge, in no particular order. */
export function pciDevices(config: VmConfig): PciWishes[] {
  return [
    ...(config.console.mode === 'Off' ? [] : [config.console]),
    ...(config.disks ?? []),
    ...(config.net ?? []),
    config.rng,
    ...(config.vsock ? [config.vsock] : []),
    ...(config.pmem ?? []),
    ...(config.rtc ? [config.rtc] : []),
    ...(config.balloon ? [config.balloon] : []),
    ...(config.watchdog ? [{}] : []),
    ...(config.pvpanic ? [{}] : []),
  ];
}
