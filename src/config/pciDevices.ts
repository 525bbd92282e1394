/** The PCI devices that a configuration makes. */
import type { VmConfig } from './vmConfig.ts';

/** What may be asked for of a PCI device. */
export interface PciWishes {
  readonly id?: string;
  readonly pci_device_id?: number;
}

/** Every PCI device of the machine besides the host bridge, in no particular order. */
export function pciDevices(config: VmConfig): PciWishes[] {
  const devices: PciWishes[] = [config.rng];
  if (config.console.mode !== 'Off') devices.push(config.console);
  if (config.disks) devices.push(...config.disks);
  if (config.net) devices.push(...config.net);
  if (config.vsock) devices.push(config.vsock);
  if (config.pmem) devices.push(...config.pmem);
  if (config.rtc) devices.push(config.rtc);
  if (config.balloon) devices.push(config.balloon);
  if (config.watchdog) devices.push({});
  if (config.pvpanic) devices.push({});
  return devices;
}
