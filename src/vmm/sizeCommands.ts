/** Commands that change sizes, some of which the guest has to follow. */
import type { VmResize } from '../config/requests.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { Abortable } from '../host/abort.ts';
import type { CommandedVm } from './commandedVm.ts';
import { wrapped } from './errors.ts';
import { toldAs } from './failures.ts';
import { DISK_NOT_RESIZED } from './lifecycle.ts';
import { checkWait } from './waiting.ts';

/**
 * Changes sizes: of a machine, where the guest may take any time, or else of the configuration.
 * With `wait_ms`, resolves when the guest has done that (of memory: by virtio-mem), and fails if that takes longer.
 * @param client an abort of its signal ends the wait
 * @throws VmmError `busy` while it has not done what it was asked for before; RangeError if `wait_ms` is no time
 */
export async function resizeVm(vm: CommandedVm, sizes: VmResize, client: Abortable): Promise<void> {
  const { wait_ms: timeoutMs } = sizes;
  checkWait(timeoutMs);
  await vm.command('resize', () => vm.sizes.resize(sizes));
  if (timeoutMs === undefined) return;
  await toldAs('resize', vm.sizes.wait(sizes, { timeoutMs, signal: client.signal }));
}

/**
 * Gives a memory zone another size in bytes.
 * @param waitMs resolves when the guest has brought the zone to that size, and fails if that takes longer
 * @param client an abort of its signal ends the wait
 * @throws VmmError; RangeError if `waitMs` is no time
 */
export async function resizeMemoryZone(
  vm: CommandedVm,
  id: string,
  bytes: Uint64,
  waitMs: number | undefined,
  client: Abortable,
): Promise<void> {
  checkWait(waitMs);
  await vm.command('resizeZone', () => vm.sizes.resizeZone(id, bytes));
  if (waitMs === undefined) return;
  const limits = { timeoutMs: waitMs, signal: client.signal };
  await toldAs('resizeZone', vm.sizes.waitForZone(id, limits));
}

/**
 * Gives a disk another size in bytes, a multiple of 512. The configuration says nothing of sizes and stays as it is.
 * @throws VmmError `missing` if there is no such disk, `failed` if it cannot have that size
 */
export function resizeDiskImage({ command, devices }: CommandedVm, id: string, bytes: Uint64): Promise<void> {
  const resize = () => devices.operate('disk', 'resize', [bytes], id);
  return command('resizeDisk', () => wrapped(DISK_NOT_RESIZED, resize()));
}
