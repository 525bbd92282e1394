/** What the validation of all parts of a configuration shares. */
import { ConfigError } from './configError.ts';
import type { Uint64 } from './uint64.ts';
import type { CpusConfig } from './vmConfig.ts';

/** Of one virtqueue, in descriptors (virtio 1.2 §2.7). */
export const MAX_QUEUE_SIZE = 32_768;

export function invalid(message: string): ConfigError {
  return new ConfigError('invalid', message);
}

export function unsupported(message: string): ConfigError {
  return new ConfigError('unsupported', `${message} is not supported yet`);
}

/**
 * Of a device, whatever vCPUs are there at the moment: its queues stay when some leave, and more may come. Guests use
 * as many as they have vCPUs.
 * @param called queues, or pairs of them
 */
export function checkQueueCount(device: string, called: string, count: number, cpus: CpusConfig): void {
  const { max_vcpus: most } = cpus;
  if (count <= most) return;
  throw invalid(`${device} has more ${called} (${count}) than there can be vCPUs (${most})`);
}

export function isPowerOfTwo(value: Uint64): boolean {
  const bits = BigInt(value);
  return bits > 0n && (bits & (bits - 1n)) === 0n;
}
