/** Gives every PCI device its name, number and addresses, in the order in which guests expect to find them. */
import type { BalloonConfig } from '../config/devices/balloon.ts';
import type { DiskConfig } from '../config/devices/disk.ts';
import type { NetConfig } from '../config/devices/net.ts';
import type { PmemConfig } from '../config/devices/pmem.ts';
import type { VsockConfig } from '../config/devices/vsock.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { BootSpec, CharBackendSpec, PciFunctionSpec } from '../native.ts';
import { type Bus, createBus, place, reserveNames, type Window } from './bus.ts';
import {
  BALLOON_ID,
  CONSOLE_ID,
  DISK_PREFIX,
  NET_PREFIX,
  PMEM_PREFIX,
  PVPANIC_ID,
  RNG_ID,
  RTC_ID,
  VSOCK_PREFIX,
  WATCHDOG_ID,
} from './deviceIds.ts';
import { serialOfPath } from './diskSerial.ts';
import type { BootResources, Placement } from './plan.ts';
import { rateLimiterOf } from './rateLimiters.ts';

const PVPANIC_BAR_SIZE = 4096;

export interface DevicePlan {
  readonly functions: readonly PciFunctionSpec[];
  readonly placements: readonly Placement[];
  readonly pvpanic?: BootSpec['pci']['pvpanic'];
}

/**
 * Places all devices; disks' registers go below 4 GiB, where the oldest firmware reaches them.
 * @throws PlatformError `ERR_TSVMM_PCI_SLOT` or `ERR_TSVMM_PCI_BAR`
 */
export function planDevices(
  config: VmConfig,
  resources: BootResources,
  window32: Window,
  window64: Window,
): DevicePlan {
  const disks = config.disks ?? [];
  const bus = createBus(window32, window64);
  reserveNames(bus, config);
  if (resources.console !== undefined) {
    addConsole(bus, config, resources.console, resources.consoleSize);
  }
  for (let index = 0; index < disks.length; index++) {
    addDisk(bus, config, index, resources);
  }
  config.net?.forEach((net, index) => {
    addNet(bus, net, index, resources);
  });
  const rng = place(bus, 'rng', config.rng.id ?? RNG_ID, config.rng.pci_device_id, 0);
  bus.functions.push({ ...rng, kind: 'rng', fd: resources.rng.fd });
  config.pmem?.forEach((pmem, index) => {
    addPmem(bus, pmem, index, resources);
  });
  if (config.vsock) addVsock(bus, config.vsock, resources);
  if (config.balloon) addBalloon(bus, config.balloon);
  if (config.watchdog) {
    bus.functions.push({ ...place(bus, 'watchdog', WATCHDOG_ID, undefined, 0), kind: 'watchdog' });
  }
  if (config.rtc) {
    const { id, pci_device_id } = config.rtc;
    bus.functions.push({ ...place(bus, 'rtc', id ?? RTC_ID, pci_device_id, 0), kind: 'rtc' });
  }
  return config.pvpanic ? { ...bus, pvpanic: addPvpanic(bus) } : bus;
}

function addPvpanic(bus: Bus): { slot: number; bar0: number } {
  const slot = bus.slots.allocate();
  const bar0 = bus.bars32.allocate(PVPANIC_BAR_SIZE);
  bus.placements.push({
    ...{ id: PVPANIC_ID, kind: 'pvpanic', index: 0, slot },
    ...{ bar0, bar0Is64Bit: false, bar0Size: PVPANIC_BAR_SIZE },
  });
  return { slot, bar0 };
}

function addBalloon(bus: Bus, balloon: BalloonConfig): void {
  bus.functions.push({
    ...place(bus, 'balloon', balloon.id ?? BALLOON_ID, balloon.pci_device_id, 0),
    kind: 'balloon',
    // Less than the memory's, which is a machine's.
    size: Number(balloon.size),
    deflateOnOom: balloon.deflate_on_oom,
    freePageReporting: balloon.free_page_reporting,
  });
}

function addPmem(bus: Bus, pmem: PmemConfig, index: number, resources: BootResources): void {
  const resource = resources.pmem?.[index];
  if (resource === undefined) throw new RangeError(`Persistent memory ${index} has not been opened`);
  const { fd, size } = resource;
  // A BAR's size is a power of two, and more than the memory needs not.
  const barSize = 2 ** Math.ceil(Math.log2(size));
  const id = pmem.id ?? bus.ids.generate(PMEM_PREFIX);
  const common = place(bus, 'pmem', id, pmem.pci_device_id, index, barSize);
  bus.functions.push({ ...common, kind: 'pmem', fd, size, discardWrites: pmem.discard_writes });
}

function addConsole(
  bus: Bus,
  config: VmConfig,
  backend: CharBackendSpec,
  size: { readonly columns: number; readonly rows: number },
): void {
  const { id, pci_device_id } = config.console;
  const common = place(bus, 'console', id ?? CONSOLE_ID, pci_device_id, 0);
  bus.functions.push({ ...common, kind: 'console', backend, columns: size.columns, rows: size.rows });
}

function addDisk(bus: Bus, config: VmConfig, index: number, resources: BootResources): void {
  const disk = config.disks?.[index] as DiskConfig;
  const resource = resources.disks[index];
  if (resource === undefined) {
    throw new RangeError(`Disk ${index} has not been opened`);
  }
  const rateLimiter = rateLimiterOf(disk, config.rate_limit_groups);
  const common = place(bus, 'block', disk.id ?? bus.ids.generate(DISK_PREFIX), disk.pci_device_id, index);
  bus.functions.push({
    ...common,
    kind: 'block',
    layers: resource.layers,
    readonly: disk.readonly,
    direct: disk.direct,
    sparse: disk.sparse,
    disableIoUring: disk.disable_io_uring,
    disableAio: disk.disable_aio,
    numQueues: disk.num_queues,
    queueSize: disk.queue_size,
    serial: disk.serial ?? serialOfPath(disk.path ?? ''),
    protectSector0: resource.protectSector0,
    queueCpus: queueCpus(disk),
    ...(rateLimiter && { rateLimiter }),
  });
}

function addNet(bus: Bus, net: NetConfig, index: number, resources: BootResources): void {
  const resource = resources.nets[index];
  if (resource === undefined) {
    throw new RangeError(`Network device ${index} has not been opened`);
  }
  const rateLimiter = rateLimiterOf(net);
  const common = place(bus, 'net', net.id ?? bus.ids.generate(NET_PREFIX), net.pci_device_id, index);
  bus.functions.push({
    ...common,
    kind: 'net',
    ...resource,
    queueSize: net.queue_size,
    checksum: net.offload_csum,
    tso: net.offload_tso,
    ufo: net.offload_ufo,
    ...(rateLimiter && { rateLimiter }),
  });
}

/** For each queue the host CPUs that it is to run on, none for any; the last entry of a queue counts. */
function queueCpus(disk: DiskConfig): number[][] {
  const queues: number[][] = Array.from({ length: disk.num_queues }, () => []);
  for (const { queue_index, host_cpus } of disk.queue_affinity ?? []) queues[queue_index] = host_cpus;
  return queues;
}

function addVsock(bus: Bus, vsock: VsockConfig, resources: BootResources): void {
  if (resources.vsock === undefined) throw new RangeError('The vsock has not been opened');
  const common = place(bus, 'vsock', vsock.id ?? bus.ids.generate(VSOCK_PREFIX), vsock.pci_device_id, 0);
  bus.functions.push({
    ...common,
    kind: 'vsock',
    listener: resources.vsock.fd,
    cid: vsock.cid,
    path: vsock.socket,
    anyOwner: vsock.any_owner,
  });
}
