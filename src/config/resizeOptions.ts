/** The library's forms of sizes. */
import type { VmResize } from './requests.ts';
import { byteSize } from './size.ts';

/** What is absent stays as it is. The REST API's fields do as well. */
export interface ResizeOptions extends Partial<VmResize> {
  /** How many there are. */
  readonly vcpus?: number;
  /** Bytes, or a string such as `'2G'`. */
  readonly memory?: number | string;
  /** Bytes that the guest is to put into its balloon, or such a string. */
  readonly balloon?: number | string;
}

/** The request of the REST API, which is yet to be checked. @throws ConfigError for a string that is no size */
export function resizeRequest(given: ResizeOptions): unknown {
  if (typeof given !== 'object' || given === null) return given;
  const { vcpus, memory, balloon, ...request } = given;
  return {
    ...request,
    ...(vcpus !== undefined && { desired_vcpus: vcpus }),
    ...(memory !== undefined && { desired_ram: bytesOf(memory) }),
    ...(balloon !== undefined && { desired_balloon: bytesOf(balloon) }),
  };
}

/** Programs in JavaScript give other things, too. @throws ConfigError */
export function bytesOf(size: unknown): unknown {
  return typeof size === 'string' ? byteSize(size) : size;
}
