/** What a machine reads by name: payload, disks, persistent memory. On the start path. */
import type { VmConfig } from '../config/vmConfig.ts';
import { type DevicesOfKind, pathsOf } from '../devices/registry.ts';

/**
 * Paths of the files that a configuration names for reading, or as disks and persistent memory.
 * @param present its devices
 */
export function filesToRead({ payload = {} }: VmConfig, present: readonly DevicesOfKind[]): string[] {
  const found: string[] = [];
  for (const { record, devices } of present) {
    if (!('paths' in record) || record.paths?.files === undefined) continue;
    for (const device of devices) found.push(...pathsOf(record, device, 'files'));
  }
  const { kernel, firmware, initramfs } = payload;
  if (kernel !== undefined) found.push(kernel);
  if (firmware !== undefined) found.push(firmware);
  if (initramfs !== undefined) found.push(initramfs);
  return found;
}
