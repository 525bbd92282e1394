/** Paths of a machine that another process, in another folder, will run. */
import type { VmConfig } from '../../config/vmConfig.ts';

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
    ...(vm.disks && { disks: vm.disks.map((disk) => within(disk, 'path')) }),
    ...(vm.pmem && { pmem: vm.pmem.map((one) => within(one, 'file')) }),
    ...(vm.vsock && { vsock: within(vm.vsock, 'socket') }),
    rng: within(vm.rng, 'src'),
    serial: within(vm.serial, 'file', 'socket', 'log'),
    console: within(vm.console, 'file', 'socket', 'log'),
    debug_console: within(vm.debug_console, 'file'),
  };
}
