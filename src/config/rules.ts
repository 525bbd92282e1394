/** What validation of every part of a configuration uses. */
import { ConfigError } from './configError.ts';

/** Of one virtqueue, in descriptors (virtio 1.2 §2.7). */
export const MAX_QUEUE_SIZE = 32_768;

export function invalid(message: string): ConfigError {
  return new ConfigError('invalid', message);
}

export function unsupported(message: string): ConfigError {
  return new ConfigError('unsupported', `${message} is not supported yet`);
}

export function isPowerOfTwo(value: number): boolean {
  let power = 1;
  while (power < value) power *= 2;
  return power === value;
}
