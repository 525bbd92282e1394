/** Gives every PCI device its name, number and addresses, in the order in which guests expect to find them. */
import type { DiskConfig, VmConfig } from '../config/vmConfig.ts';
import type { CharBackendSpec, PciFunctionSpec } from '../native.ts';
import { CONSOLE_ID, DeviceIds, DISK_PREFIX, RNG_ID, WATCHDOG_ID } from './deviceIds.ts';
import type { BootResources, Placement } from './plan.ts';
import { BarAllocator, SlotAllocator } from './slots.ts';

/** Registers, MSI-X table and pending bits of one virtio function. */
const VIRTIO_BAR_SIZE = 512 * 1024;

export interface Window {
  readonly start: number;
  readonly size: number;
}

export interface DevicePlan {
  readonly functions: readonly PciFunctionSpec[];
  readonly placements: readonly Placement[];
}

/**
 * Places console, disks, rng and watchdog; disks' registers go below 4 GiB, where the oldest firmware reaches them.
 * @throws PlatformError `ERR_TSVMM_PCI_SLOT` or `ERR_TSVMM_PCI_BAR`
 */
export function planDevices(
  config: VmConfig,
  resources: BootResources,
  window32: Window,
  window64: Window,
): DevicePlan {
  const bus = new BusPlan(config, window32, window64);
  if (resources.console !== undefined) {
    bus.addConsole(config, resources.console, resources.consoleSize);
  }
  config.disks?.forEach((disk, index) => {
    bus.addDisk(disk, index, resources);
  });
  bus.addRng(config, resources.rng.fd);
  if (config.watchdog) {
    bus.addWatchdog();
  }
  return bus;
}

class BusPlan implements DevicePlan {
  readonly functions: PciFunctionSpec[] = [];
  readonly placements: Placement[] = [];
  readonly #ids: DeviceIds;
  readonly #slots = new SlotAllocator();
  readonly #bars32: BarAllocator;
  readonly #bars64: BarAllocator;

  /** Numbers that are asked for are taken before any other is handed out. */
  constructor(config: VmConfig, window32: Window, window64: Window) {
    const used: string[] = [];
    for (const device of [config.console, config.rng, ...(config.disks ?? [])]) {
      if (device.id !== undefined) {
        used.push(device.id);
      }
    }
    this.#ids = new DeviceIds(used);
    this.#bars32 = new BarAllocator(window32);
    this.#bars64 = new BarAllocator(window64);
    const present = config.console.mode === 'Off' ? [config.rng] : [config.console, config.rng];
    for (const device of [...present, ...(config.disks ?? [])]) {
      if (device.pci_device_id !== undefined) {
        this.#slots.reserve(device.pci_device_id);
      }
    }
  }

  addConsole(
    config: VmConfig,
    backend: CharBackendSpec,
    size: { readonly columns: number; readonly rows: number },
  ): void {
    const place = this.#place('console', config.console.id ?? CONSOLE_ID, config.console.pci_device_id);
    this.functions.push({ ...place, kind: 'console', backend, columns: size.columns, rows: size.rows });
  }

  addDisk(disk: DiskConfig, index: number, resources: BootResources): void {
    const resource = resources.disks[index];
    if (resource === undefined) {
      throw new RangeError(`Disk ${index} has not been opened`);
    }
    const id = disk.id ?? this.#ids.generate(DISK_PREFIX);
    this.functions.push({
      ...this.#place('block', id, disk.pci_device_id, index),
      kind: 'block',
      fd: resource.fd,
      readonly: disk.readonly,
      direct: disk.direct,
      numQueues: disk.num_queues,
      queueSize: disk.queue_size,
      serial: disk.serial ?? '',
      protectSector0: resource.protectSector0,
    });
  }

  addRng(config: VmConfig, fd: number): void {
    this.functions.push({
      ...this.#place('rng', config.rng.id ?? RNG_ID, config.rng.pci_device_id),
      kind: 'rng',
      fd,
    });
  }

  addWatchdog(): void {
    this.functions.push({ ...this.#place('watchdog', WATCHDOG_ID, undefined), kind: 'watchdog' });
  }

  #place(kind: Placement['kind'], id: string, wantedSlot: number | undefined, index = 0) {
    const slot = wantedSlot ?? this.#slots.allocate();
    const bar0Is64Bit = kind !== 'block';
    const bar0 = (bar0Is64Bit ? this.#bars64 : this.#bars32).allocate(VIRTIO_BAR_SIZE);
    this.placements.push({ id, kind, index, slot, bar0, bar0Is64Bit, bar0Size: VIRTIO_BAR_SIZE });
    return { id, slot, bar0, bar0Is64Bit };
  }
}
