/** A machine's configuration in libvirt's units. */
import { memorySizeOf } from '../../config/memory.ts';
import type { Uint64 } from '../../config/uint64.ts';
import { KIB } from '../../config/units.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { deviceOf } from './memorySizes.ts';

/** What there is without memory devices. */
export function bootMemory({ memory }: VmConfigInput): bigint {
  return BigInt(memorySizeOf(memory));
}

/** With all that a virtio-mem device may give the guest, as libvirt counts. */
export function maxMemoryKib(config: VmConfigInput): bigint {
  return kibOf(bootMemory(config) + (deviceOf(config)?.size ?? 0n));
}

/** What the guest is to have, of which the balloon takes some. */
export function givenMemory(config: VmConfigInput): bigint {
  return bootMemory(config) + (deviceOf(config)?.requested ?? 0n);
}

/** What the balloon leaves to the guest. */
export function currentMemoryKib(config: VmConfigInput): bigint {
  return kibOf(givenMemory(config)) - kibOf(config.balloon?.size ?? 0);
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
