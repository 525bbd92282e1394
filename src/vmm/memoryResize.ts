/** The memory of a machine. */
import { memorySize } from '../config/memory.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { notSupportedYet } from './errors.ts';

/** @throws VmmError */
export async function resizeMemory(config: VmConfig, bytes: Uint64): Promise<void> {
  if (bytes !== memorySize(config.memory)) throw notSupportedYet("Changing a running VM's memory");
}
