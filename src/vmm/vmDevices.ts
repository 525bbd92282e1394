/** The devices of a VM: added, removed and operated, in its configuration and in its machine. */
import type { Uint64 } from '../config/uint64.ts';
import type { Device } from '../devices/record.ts';
import { completeDevices, type DeviceName, descriptorsOf } from '../devices/registry.ts';
import { findOperation } from './deviceOperations.ts';
import type { DevicePlace, Hotplug, HotplugVm } from './hotplug.ts';
import type { PendingRemoval } from './info.ts';
import type { Machine } from './machine.ts';
import type { WaitLimits } from './waiting.ts';

/** The VM whose devices these are. */
export interface DevicesVm extends Omit<HotplugVm, 'machine' | 'closeDescriptors' | 'keptSlots'> {
  readonly machine: () => Machine | undefined;
  /** @throws VmmError if there is no machine */
  readonly running: () => Machine;
}

export class VmDevices {
  private readonly vm: DevicesVm;
  /** From the first device on that comes to a machine, or leaves it. */
  private hotplug: Hotplug | undefined;
  /** Of devices that the configuration has no place for it, for as long as there is one: their numbers on the bus. */
  readonly keptSlots = new Map<string, number>();
  /** Of devices, for as long as the configuration has them. */
  private readonly descriptors = new Set<number>();

  constructor(vm: DevicesVm) {
    this.vm = vm;
  }

  /**
   * Adds a device, if the configuration is valid with it; to the machine, if there is one.
   * @param descriptors that the device has; they are the VM's from now on, and closed if the device is refused
   * @returns where the machine has it
   * @throws Error with nothing added
   */
  async add(
    kind: DeviceName,
    device: Device,
    descriptors: readonly number[],
  ): Promise<DevicePlace | undefined> {
    for (const fd of descriptors) this.descriptors.add(fd);
    try {
      const { configWithDevice } = await import('./deviceChanges.ts');
      const wanted = configWithDevice(this.vm.config(), kind, device);
      if (this.vm.machine()) return await (await this.hotplugging()).add(wanted, kind, device);
      completeDevices(wanted);
      this.vm.configure(wanted);
      const { id } = device;
      this.vm.emit('device-added', { kind, ...(id !== undefined && { id }) });
      return undefined;
    } catch (error) {
      this.closeDescriptors(descriptors);
      throw error;
    }
  }

  /**
   * Removes a device, which a guest is asked to give up.
   * @param again a removal that has begun is no error
   * @returns the device's own name
   * @throws VmmError `missing` if there is no such device
   */
  async remove(id: string, again: boolean): Promise<string> {
    if (this.vm.machine()) return (await this.hotplugging()).requestRemoval(id, again);
    const { configWithoutDevice, findRemovable, noSuchDevice } = await import('./deviceChanges.ts');
    const found = findRemovable(this.vm.config(), id);
    if (!found) throw noSuchDevice(id);
    this.vm.configure(configWithoutDevice(this.vm.config(), found));
    this.closeDescriptors(descriptorsOf(found.record, found.device));
    this.vm.emit('device-removed', { id });
    return id;
  }

  /**
   * Has a device of the machine do what its record calls `operation`.
   * @param id of a device of that kind; the only one's unless given
   * @throws VmmError `missing` if there is no such device
   */
  async operate(
    kind: DeviceName,
    operation: string,
    operands: readonly Uint64[],
    id?: string,
  ): Promise<void> {
    const found = findOperation(this.vm.native, this.vm.config(), kind, operation, operands, id);
    if (found.busy) await this.vm.busy((machine) => found.run(machine));
    else await found.run(this.vm.running());
  }

  /** Devices that the guest was asked to give up and has not. */
  get pending(): readonly PendingRemoval[] {
    return this.hotplug?.pending ?? [];
  }

  /** Those that it has given up and that have not come to their end. */
  get ejected(): readonly string[] {
    return this.hotplug?.ejectedOnes ?? [];
  }

  /** The guest has given up a device. @throws VmmError if it does not come to its end */
  async eject(id: string, paused: boolean): Promise<void> {
    await this.hotplug?.ejected(id, paused);
  }

  /** Takes a device away from a guest that was asked to give it up. @throws VmmError if it does not come to its end */
  async take(id: string): Promise<void> {
    await this.hotplug?.finishRemoval(id, true);
  }

  /**
   * Resolves when a device that is being removed is gone.
   * @throws VmmError if that takes longer; the signal's reason
   */
  async wait(id: string, limits: WaitLimits): Promise<void> {
    await this.hotplug?.wait(id, limits);
  }

  /** The machine has come to its end, and all its devices with it. */
  machineEnded(): void {
    this.hotplug?.machineEnded();
  }

  /** The configuration is gone. */
  close(): void {
    this.closeDescriptors(this.descriptors);
    this.keptSlots.clear();
  }

  /** Those of them that are the VM's own. */
  private closeDescriptors(descriptors: Iterable<number>): void {
    for (const fd of descriptors) if (this.descriptors.delete(fd)) this.vm.native.closeFile(fd);
  }

  private async hotplugging(): Promise<Hotplug> {
    const { Hotplug } = await import('./hotplug.ts');
    this.hotplug ??= new Hotplug({
      ...this.vm,
      machine: this.vm.running,
      keptSlots: this.keptSlots,
      closeDescriptors: (descriptors) => this.closeDescriptors(descriptors),
    });
    return this.hotplug;
  }
}
