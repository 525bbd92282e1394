/** Makes the paths of a machine absolute, for a process that works in another folder. */
import type { VmConfig } from '../../config/vmConfig.ts';
import type { AnyDeviceRecord } from '../../devices/record.ts';
import { configuredDevices, deviceRecords } from '../../devices/registry.ts';

/** The same machine, with the relative paths of its files and sockets begun in `folder`. */
export function absolutePaths(vm: VmConfig, folder: string): VmConfig {
  /** Those of the named fields that are there. */
  const within = <T extends object>(object: T, ...names: (keyof T)[]): T => {
    const paths = names.filter((name) => typeof object[name] === 'string');
    return {
      ...object,
      ...Object.fromEntries(paths.map((name) => [name, absolute(object[name] as string, folder)])),
    };
  };
  return {
    ...vm,
    ...(vm.payload && { payload: within(vm.payload, 'kernel', 'firmware', 'initramfs') }),
    ...devicesWithin(vm, folder),
    ...(vm.memory.zones && {
      memory: { ...vm.memory, zones: vm.memory.zones.map((zone) => within(zone, 'file')) },
    }),
    serial: within(vm.serial, 'file', 'socket', 'log'),
    debug_console: within(vm.debug_console, 'file'),
  };
}

/** The same device, with the relative paths of its files and sockets begun in `folder`. */
export function absoluteDevicePaths<T extends object>(record: AnyDeviceRecord, device: T, folder: string): T {
  const { files = [], sockets = [], outputs = [] } = record.paths ?? {};
  const names = [...files, ...sockets, ...outputs];
  const moved = Object.entries(device).map(([name, path]) =>
    names.includes(name) && typeof path === 'string' ? [name, absolute(path, folder)] : [name, path],
  );
  return Object.fromEntries(moved) as T;
}

/** The fields of all devices that have a path. */
function devicesWithin(vm: VmConfig, folder: string): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const record of deviceRecords) {
    const value = (vm as Readonly<Record<string, unknown>>)[record.field];
    if (value === undefined || record.paths === undefined) continue;
    const moved = configuredDevices(vm, record).map((device) => absoluteDevicePaths(record, device, folder));
    fields[record.field] = Array.isArray(value) ? moved : moved[0];
  }
  return fields;
}

function absolute(path: string, folder: string): string {
  return path === '' || path.startsWith('/') ? path : `${folder}/${path}`;
}
