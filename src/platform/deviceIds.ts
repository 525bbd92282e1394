/** Names of devices that were not given one. Those of PCI devices are in their records (`../devices/`). */

import { allDevices, deviceRecords, devicesOf } from '../devices/registry.ts';

/** Devices that a machine has one of, which the API names so. */
export const SERIAL_ID = '__serial';
export const DEBUG_CONSOLE_ID = '__debug_console';
export const IOAPIC_ID = '__ioapic';

/** Hands out names with one counter for all prefixes, so that a number never comes twice. */
export class DeviceIds {
  private readonly used: string[];
  /** The number that the next generated name tries first; it outlives devices, and a snapshot keeps it. */
  counter: number;

  constructor(used: string[], counter = 0) {
    this.used = used;
    this.counter = counter;
  }

  /** The next free `prefix` name, which is taken from now on. */
  generate(prefix: string): string {
    for (;;) {
      const name = prefix + this.counter;
      this.counter++;
      if (!this.used.includes(name)) {
        this.used.push(name);
        return name;
      }
    }
  }
}

/**
 * The identifiers that a machine's PCI devices have, by the name of their kind and in order: those of the configuration, which
 * are taken before any other is handed out, and generated ones.
 */
export function deviceIds(config: object): Readonly<Record<string, readonly string[]>> {
  const used: string[] = [];
  for (const { id } of allDevices(config)) if (id !== undefined) used.push(id);
  const generated = new DeviceIds(used);
  const all: Record<string, string[]> = {};
  for (const record of deviceRecords) {
    const { ids, name } = record;
    const given = devicesOf(config, record);
    if (given.length === 0) continue;
    all[name] = given.map(({ id }) => id ?? ('fixed' in ids ? ids.fixed : generated.generate(ids.prefix)));
  }
  return all;
}
