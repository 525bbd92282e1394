/** The PCI devices that a configuration makes. */
import type { VmConfig } from './vmConfig.ts';

/** What may be asked for of a PCI device. */
export interface PciRequest {
  readonly id?: string;
  readonly iommu?: boolean;
  readonly pci_segment?: number;
  readonly pci_device_id?: number;
}

/** Every PCI device of the machine besides the host bridge, in no particular order. */
export function pciDevices(config: VmConfig): PciRequest[] {
  const devices: PciRequest[] = [config.rng];
  if (config.console.mode !== 'Off') devices.push(config.console);
  const { disks, net, pmem, fs, devices: assigned, user_devices, vdpa, generic_vhost_user } = config;
  for (const list of [disks, net, pmem, fs, assigned, user_devices, vdpa, generic_vhost_user]) {
    if (list) devices.push(...list);
  }
  for (const device of [config.vsock, config.rtc, config.balloon, config.ivshmem]) {
    if (device) devices.push(device);
  }
  if (config.watchdog) devices.push({});
  if (config.pvpanic) devices.push({});
  return devices;
}
