/** Paths of a machine that another process, in another folder, will run. */
import type { VmConfig } from '../../config/vmConfig.ts';
import { configuredDevices, deviceRecords } from '../../devices/registry.ts';

/** The same machine, with the relative paths of its files and sockets begun in `folder`. */
export function absolutePaths(vm: VmConfig, folder: string): VmConfig {
  const here = (path: string) => (path === '' || path.startsWith('/') ? path : `${folder}/${path}`);
  /** Those of the named fields that are there. */
  const within = <T extends object>(object: T, ...names: (keyof T)[]): T => {
    const paths = names.filter((name) => typeof object[name] === 'string');
    return { ...object, ...Object.fromEntries(paths.map((name) => [name, here(object[name] as string)])) };
  };
  return {
    ...vm,
    ...(vm.payload && { payload: within(vm.payload, 'kernel', 'firmware', 'initramfs') }),
    ...devicesWithin(vm, here),
    ...(vm.memory.zones && {
      memory: { ...vm.memory, zones: vm.memory.zones.map((zone) => within(zone, 'file')) },
    }),
    serial: within(vm.serial, 'file', 'socket', 'log'),
    debug_console: within(vm.debug_console, 'file'),
  };
}

/** The fields of all devices that have a path. */
function devicesWithin(vm: VmConfig, here: (path: string) => string): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const record of deviceRecords) {
    const { files = [], sockets = [], outputs = [] } = record.paths ?? {};
    const names = [...files, ...sockets, ...outputs];
    const value = (vm as Readonly<Record<string, unknown>>)[record.field];
    if (value === undefined || names.length === 0) continue;
    const moved = configuredDevices(vm, record).map((device) =>
      Object.fromEntries(
        Object.entries(device).map(([name, path]) =>
          names.includes(name) && typeof path === 'string' ? [name, here(path)] : [name, path],
        ),
      ),
    );
    fields[record.field] = Array.isArray(value) ? moved : moved[0];
  }
  return fields;
}
