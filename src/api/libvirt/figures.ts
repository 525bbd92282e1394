/** A machine's configuration in libvirt's units. */
import { DEFAULT_MEMORY_SIZE } from '../../config/memory.ts';
import type { Uint64 } from '../../config/uint64.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';

export const KIB = 1024;

export function maxMemoryKib({ memory }: VmConfigInput): bigint {
  return kibOf(memory?.size ?? DEFAULT_MEMORY_SIZE);
}

/** What the balloon leaves to the guest. */
export function currentMemoryKib(config: VmConfigInput): bigint {
  return maxMemoryKib(config) - kibOf(config.balloon?.size ?? 0);
}

/** Of any number of bytes, rounded down. */
export function kibOf(bytes: Uint64): bigint {
  return BigInt(bytes) / BigInt(KIB);
}

export function vcpusOf({ cpus }: VmConfigInput): number {
  return cpus?.boot_vcpus ?? 1;
}

export function maxVcpus(config: VmConfigInput): number {
  return config.cpus?.max_vcpus ?? vcpusOf(config);
}
