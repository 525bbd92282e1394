/** Names of devices that were not given one. Those of PCI devices are in their records (`../devices/`). */

import type { AnyMachineDeviceRecord } from '../devices/record.ts';
import { type DevicesOfKind, presentDevices } from '../devices/registry.ts';

/** Devices that a machine has one of, which the API names so. */
export const SERIAL_ID = '__serial';
export const DEBUG_CONSOLE_ID = '__debug_console';
export const IOAPIC_ID = '__ioapic';

/** Hands out names with one counter for all prefixes, so that a number never comes twice. */
export class DeviceIds {
  private readonly used = new Set<string>();
  /** The number that the next generated name tries first; it outlives devices, and a snapshot keeps it. */
  counter: number;

  constructor(counter = 0) {
    this.counter = counter;
  }

  take(name: string): void {
    this.used.add(name);
  }

  /** Of a device that is gone. */
  release(name: string): void {
    this.used.delete(name);
  }

  /** The next free `prefix` name, which is taken from now on. */
  generate(prefix: string): string {
    for (;;) {
      const name = prefix + this.counter;
      this.counter++;
      if (!this.used.has(name)) {
        this.used.add(name);
        return name;
      }
    }
  }
}

/**
 * The identifiers that a machine's PCI devices have, by the name of their kind and in order: those of the
 * configuration, which are taken before any other is handed out, and generated ones.
 */
export function deviceIds(
  config: object,
  names: DeviceIds = new DeviceIds(),
  present: readonly DevicesOfKind[] = presentDevices(config),
): Readonly<Record<string, readonly string[]>> {
  for (const { devices } of present) for (const { id } of devices) if (id !== undefined) names.take(id);
  const all: Record<string, string[]> = {};
  for (const { record, devices } of present) {
    const ids: string[] = [];
    for (const device of devices) ids.push(device.id ?? newId(record, names));
    all[record.name] = ids;
  }
  return all;
}

/** Of a device that was given none. */
export function newId({ ids }: AnyMachineDeviceRecord, names: DeviceIds): string {
  return 'fixed' in ids ? ids.fixed : names.generate(ids.prefix);
}
