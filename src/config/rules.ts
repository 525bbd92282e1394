/** What validation of every part of a configuration uses. */
import { ConfigError } from './configError.ts';
import type { Uint64 } from './uint64.ts';

/** Of one virtqueue, in descriptors (virtio 1.2 §2.7). */
export const MAX_QUEUE_SIZE = 32_768;

export function invalid(message: string): ConfigError {
  return new ConfigError('invalid', message);
}

export function unsupported(message: string): ConfigError {
  return new ConfigError('unsupported', `${message} is not supported yet`);
}

export function isPowerOfTwo(value: Uint64): boolean {
  const bits = BigInt(value);
  return bits > 0n && (bits & (bits - 1n)) === 0n;
}
