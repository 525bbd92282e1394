/**
 * Devices that come to a machine that runs, and leave it. A removal is asked of the guest, which may take its time, or
 * never answer: what the device has of the host is kept until it has.
 */
import { checkBootable } from '../config/bootable.ts';
import { iommuSegments } from '../config/platform.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord, Device } from '../devices/record.ts';
import {
  completeDevices,
  configuredDevices,
  type DeviceName,
  descriptorsOf,
  deviceNamed,
  idOf,
  presentDevices,
  shapeOf,
} from '../devices/registry.ts';
import { release } from '../platform/bus.ts';
import { planAddition } from '../platform/devices.ts';
import { bdfOf, type Placement } from '../platform/placement.ts';
import { configWithoutDevice, findRemovable, noSuchDevice } from './deviceChanges.ts';
import { notSupportedYet, refuseInvalid, VmmError } from './errors.ts';
import type { PendingRemoval } from './info.ts';
import { retryInUse } from './lockRetry.ts';
import { type Machine, type MachineContext, openDevicesOf } from './machine.ts';
import { checkOutputs } from './outputFiles.ts';
import { Waiting, type WaitLimits } from './waiting.ts';

/** Where a machine has a device, as the REST API tells it. */
export interface DevicePlace {
  readonly id: string;
  /** Segment, bus, device and function: `0000:00:05.0`. */
  readonly bdf: string;
}

export interface RemovalOptions {
  /** Wait so long for the guest to give the device up; not at all unless given. In milliseconds. */
  readonly waitMs?: number;
  /**
   * Take what is behind the device away from a guest that has not given it up then. Its name and its place on the bus
   * stay taken until the guest gives it up, or the machine ends.
   */
  readonly force?: boolean;
}

/** The VM whose devices these are. */
export interface HotplugVm extends Pick<MachineContext, 'native' | 'heldDevices'> {
  readonly machine: () => Machine;
  /** Gets the numbers of devices that the configuration has no place for it. */
  readonly keptSlots: Map<string, number>;
  readonly config: () => VmConfig;
  /** What the next machine is made of. */
  readonly configure: (config: VmConfig) => void;
  readonly context: (config: VmConfig) => MachineContext;
  /** Runs what keeps the machine from answering. */
  readonly busy: <T>(work: (machine: Machine) => Promise<T>) => Promise<T>;
  /** Called when `vm.info` may have another answer. */
  readonly changed: () => void;
  readonly emit: (event: 'device-added' | 'device-removed', texts: Record<string, string>) => void;
  readonly closeDescriptors: (descriptors: readonly number[]) => void;
}

/** A device that the guest was asked to give up. */
interface Removal {
  readonly record: AnyDeviceRecord;
  readonly device: Device;
  readonly placement: Placement;
  readonly waiting: Waiting;
  /** Nothing of the host is its any more. */
  isGone: boolean;
  /**
   * `asked`: the guest has it; `ejected`: the guest has given it up, and it has not come to its end yet; `forced`: it
   * is gone but for its name and its place, which the guest still has.
   */
  state: 'asked' | 'ejected' | 'forced';
}

export class Hotplug {
  private readonly removals = new Map<string, Removal>();
  private readonly vm: HotplugVm;

  constructor(vm: HotplugVm) {
    this.vm = vm;
  }

  /**
   * Opens what the device needs, and adds it. Where it was put becomes part of its configuration.
   * @param wanted the configuration with the device
   * @throws Error with nothing opened or taken
   */
  async add(wanted: VmConfig, kind: DeviceName, device: Device): Promise<DevicePlace> {
    const record = deviceNamed(kind);
    checkPluggable(record, (called) => `Adding a ${called} to`);
    checkTranslated(wanted, device);
    if (device.id !== undefined && this.removals.has(device.id)) {
      throw new VmmError(`The guest has not given up the device ${device.id} yet, which is being removed`, {
        code: 'ERR_TSVMM_DUPLICATE_ID',
      });
    }
    refuseInvalid(() => checkBootable(wanted));
    completeDevices(wanted);
    const context = this.vm.context(wanted);
    const placement = await plug(context, this.vm.busy, record, device);
    const { id } = placement;
    keepPlace(device, placement);
    this.vm.configure(wanted);
    const place = { id, bdf: bdfOf(placement) };
    this.vm.emit('device-added', { kind, ...place });
    return place;
  }

  /**
   * Asks the guest to give up a device, which the configuration has no more from then on.
   * One that has given it up already is not asked: the device is ended.
   * @param id the device's own name, or that of its PCI function
   * @param again a removal that has begun is no error
   * @returns the device's own name
   * @throws VmmError `missing` if there is no such device
   */
  async requestRemoval(id: string, again: boolean): Promise<string> {
    const { handle, bus } = this.vm.machine();
    const plain = ownName(bus.placements, id);
    const begun = this.removals.get(plain)?.state;
    if (begun === 'forced') throw noSuchDevice(id);
    if (begun === 'ejected') await this.finishRemoval(plain, false);
    if (begun === 'ejected' || (begun === 'asked' && again)) return plain;
    if (begun === 'asked') {
      throw new VmmError(`The guest was asked before to give up the device ${plain}, and has not yet`, {
        code: 'ERR_TSVMM_STATE',
      });
    }
    const found = findRemovable(this.vm.config(), plain);
    const placement = bus.placements.find((one) => one.id === plain);
    if (placement === undefined) throw noSuchDevice(id);
    if (found === undefined) {
      throw new VmmError(`The device ${plain} cannot be removed`, { code: 'ERR_TSVMM_STATE' });
    }
    checkPluggable(found.record, (called) => `Removing a ${called} from`);
    await this.vm.native.machineRequestUnplug(handle, plain);
    const config = configWithoutDevice(this.vm.config(), found);
    keepOthers(config, bus.placements, this.vm.keptSlots);
    this.vm.configure(config);
    this.removals.set(plain, { ...found, placement, waiting: new Waiting(), isGone: false, state: 'asked' });
    return plain;
  }

  /** Devices that the guest was asked to give up and has not. */
  get pending(): readonly PendingRemoval[] {
    return [...this.removals].map(([id, { record, device, state }]) => ({
      id,
      ...(state !== 'forced' && { was: { field: record.field, device } }),
    }));
  }

  /**
   * The guest has given up a device, which is ended, or kept in `ejectedOnes` for later.
   * @param paused devices are held: one that has work left at its end would never finish it
   * @throws VmmError as `finishRemoval`
   */
  async ejected(id: string, paused: boolean): Promise<void> {
    const removal = this.removals.get(id);
    if (removal === undefined) return;
    if (removal.state === 'forced') return this.leave(removal);
    removal.state = 'ejected';
    if (!paused) await this.finishRemoval(id, false);
  }

  get ejectedOnes(): readonly string[] {
    return [...this.removals].flatMap(([id, { state }]) => (state === 'ejected' ? [id] : []));
  }

  /**
   * Ends a device that the guest has given up, or, with `force`, has not. Does nothing for others.
   * @throws VmmError if it does not come to its end: what it has of the host stays
   */
  async finishRemoval(id: string, force: boolean): Promise<void> {
    const removal = this.removals.get(id);
    if (removal === undefined || removal.state === 'forced') return;
    await this.vm.busy(async ({ handle }) => {
      try {
        await this.vm.native.machineFinishUnplug(handle, id, force);
      } catch (error) {
        throw new VmmError(`The device ${id} does not come to its end`, { cause: error });
      }
    });
    if (removal.state === 'ejected') this.leave(removal);
    else removal.state = 'forced';
    this.gone(removal);
  }

  /** The machine has come to its end, and all its devices with it. */
  machineEnded(): void {
    const ended = [...this.removals.values()].filter(({ state }) => state !== 'forced');
    this.removals.clear();
    for (const removal of ended) this.gone(removal);
  }

  /**
   * Resolves when the device is gone.
   * @throws VmmError if that takes longer
   */
  async wait(id: string, limits: WaitLimits): Promise<void> {
    const removal = this.removals.get(id);
    if (removal === undefined) return;
    const text = () => `The guest has not given up the device ${id}`;
    await removal.waiting.until(() => removal.isGone, limits, text);
  }

  /** Nothing of the host is the device's any more. */
  private gone(removal: Removal): void {
    const { record, device, placement } = removal;
    const { id } = placement;
    this.vm.heldDevices.closeDevice(this.vm.native, device);
    this.vm.closeDescriptors(descriptorsOf(record, device));
    removal.isGone = true;
    removal.waiting.tell();
    this.vm.emit('device-removed', { id, bdf: bdfOf(placement) });
  }

  /** Its name and its place are for others. */
  private leave({ placement }: Removal): void {
    this.removals.delete(placement.id);
    release(this.vm.machine().bus, placement);
    this.vm.changed();
  }
}

/** Of the device that `id` names. A device may have been given a name that looks like another one's PCI function. */
function ownName(placements: readonly Placement[], id: string): string {
  return placements.some((one) => one.id === id) ? id : id.replace(/^_virtio-pci-/, '');
}

/** @throws VmmError if no machine takes such a device, or gives it, while it runs */
function checkPluggable(
  { specification, needs, addition }: AnyDeviceRecord,
  change: (called: string | undefined) => string,
): void {
  if (specification !== undefined && needs?.barSize === undefined) return;
  throw notSupportedYet(`${change(addition?.called)} a running VM`);
}

/**
 * @throws VmmError if the guest would have to be told of a new one behind its IOMMU, which it asks for at its boot only
 */
function checkTranslated({ platform }: VmConfig, { iommu, pci_segment: segment = 0 }: Device): void {
  if (!iommu || iommuSegments(platform).includes(segment)) return;
  throw new VmmError(
    `A device that comes to a running VM can be behind its IOMMU only in a PCI segment of platform.iommu_segments`,
    { code: 'ERR_TSVMM_CONFIG' },
  );
}

async function plug(
  context: MachineContext,
  busy: HotplugVm['busy'],
  record: AnyDeviceRecord,
  device: Device,
): Promise<Placement> {
  const { native, heldDevices } = context;
  const opened: number[] = [];
  try {
    const undo = () => {
      for (const fd of opened.splice(0)) native.closeFile(fd);
    };
    const [resource] = await retryInUse(() => openDevicesOf(context, record, [device], opened), undo);
    const files = [...context.consoles.files, ...context.outputs];
    checkOutputs(native, files, [...opened, ...heldDevices.descriptors]);
    return await busy((machine) => place(context, machine, record, device, resource));
  } catch (error) {
    heldDevices.closeDevice(native, device);
    throw error;
  } finally {
    // The core has its own duplicates.
    for (const fd of opened) native.closeFile(fd);
  }
}

async function place(
  { native, config }: MachineContext,
  { handle, bus }: Machine,
  record: AnyDeviceRecord,
  device: Device,
  resource: unknown,
): Promise<Placement> {
  const index = configuredDevices(config, record).indexOf(device);
  const added = planAddition(bus, config, { record, device, index, resource });
  try {
    await native.machinePlug(handle, added.function);
  } catch (error) {
    release(bus, added.placement);
    throw error;
  }
  return added.placement;
}

/** No device moves up into the place of one that is gone: guests know networks by their places. */
function keepOthers(
  config: VmConfig,
  placements: readonly Placement[],
  keptSlots: Map<string, number>,
): void {
  for (const { record, devices } of presentDevices(config)) {
    if (!('field' in record)) continue;
    const asksForSlot = shapeOf(record)?.fields.pci_device_id !== undefined;
    for (const device of devices) {
      const known = idOf(record, device);
      const placement = placements.find(({ id }) => id === known);
      if (placement === undefined) continue;
      if (asksForSlot) keepSlot(device, placement.slot);
      else keptSlots.set(known, placement.slot);
    }
  }
}

/** A machine that is made of the configuration has the device where this one has it. */
function keepPlace(device: Device, { id, slot }: Placement): void {
  const kept: { id?: string } = device;
  kept.id = id;
  keepSlot(device, slot);
}

function keepSlot(device: Device, slot: number): void {
  const kept: { pci_device_id?: number } = device;
  kept.pci_device_id = slot;
}
