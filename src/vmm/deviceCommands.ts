/** Commands that add devices and remove them. */
import type { DeviceName } from '../devices/registry.ts';
import type { Abortable } from '../host/abort.ts';
import type { CommandedVm } from './commandedVm.ts';
import { VmmError } from './errors.ts';
import { toldAs } from './failures.ts';
import type { DevicePlace, RemovalOptions } from './hotplug.ts';
import { checkWait } from './waiting.ts';

/**
 * Adds a device, if the configuration is valid with it; to a machine, if there is one.
 * @param descriptors that the device has; they are the VMM's from now on, also if the device is refused
 * @returns where a machine has it
 * @throws VmmError with nothing added
 */
export async function addVmDevice(
  { native, command, devices }: CommandedVm,
  kind: DeviceName,
  device: object,
  descriptors: readonly number[],
): Promise<DevicePlace | undefined> {
  // Not before its turn: the end of a VM closes what belongs to that one.
  let own = false;
  try {
    return await command('addDevice', () => {
      own = true;
      return devices.add(kind, device, descriptors);
    });
  } catch (error) {
    if (!own) for (const fd of descriptors) native.closeFile(fd);
    const { addFailureText } = await import('./deviceChanges.ts');
    throw new VmmError(addFailureText(kind), { cause: (error as VmmError).cause });
  }
}

/**
 * Removes a device. A guest is asked to give it up, and the event `device-removed` tells when it has.
 * @param id the device's, or that of its PCI function (`_virtio-pci-...`)
 * @param waitMs resolves when the device is gone, and fails if that takes longer
 * @param force takes the device away from a guest that has not given it up, after `waitMs`, or at once
 * @param signal an abort ends the wait, and no force is used then
 * @throws VmmError `missing` if there is no such device; RangeError if `waitMs` is no time
 */
export async function removeVmDevice(
  { command, devices }: CommandedVm,
  id: string,
  { waitMs, force = false, signal }: RemovalOptions & Abortable,
): Promise<void> {
  checkWait(waitMs);
  const name = await command('removeDevice', async () => {
    const own = await devices.remove(id, force || waitMs !== undefined);
    // In the same turn: between two, another device may get the name.
    if (force && waitMs === undefined) await devices.take(own);
    return own;
  });
  if (waitMs === undefined) return;
  const gone = devices.wait(name, { timeoutMs: waitMs, signal });
  if (!force) return toldAs('removeDevice', gone);
  const late = await gone.catch(() => !signal?.aborted);
  if (late) await command('removeDevice', () => devices.take(name));
}
