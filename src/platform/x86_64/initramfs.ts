/** Where the initramfs goes. */

import { PAGE_SIZE } from '../../config/units.ts';
import { PlatformError } from '../platformError.ts';
import type { Payload } from './kernel.ts';
import { alignDown, type MemoryMap, type Range } from './memoryMap.ts';

/**
 * The highest page-aligned place below the hole that the kernel can reach. Undefined for an empty one.
 * @throws PlatformError `ERR_TSVMM_KERNEL_FIT` if it would reach down into the kernel.
 */
export function placeInitramfs(size: number, payload: Payload, map: MemoryMap): Range | undefined {
  if (size === 0) {
    return undefined;
  }
  const top = Math.min(map.ramBelow4G, payload.initramfsMax + 1);
  const address = alignDown(top - size, PAGE_SIZE);
  if (size > top || address < payload.end) {
    throw new PlatformError(
      'ERR_TSVMM_KERNEL_FIT',
      `The initramfs of ${size} bytes does not fit guest memory above the kernel, which ends at 0x${payload.end.toString(16)}`,
    );
  }
  return { address, size };
}
