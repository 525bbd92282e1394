/** libvirt's errors and their encoding. */
import { recognizeAnyCopy } from '../../config/anyCopy.ts';
import { dom, i32, optional, str, struct, uuid } from './types.ts';

/** virErrorNumber, of those that are used. */
export const Code = {
  internal: 1,
  noSupport: 3,
  noConnect: 5,
  invalidArgument: 8,
  operationFailed: 9,
  xmlError: 27,
  operationDenied: 29,
  xmlDetail: 35,
  systemError: 38,
  rpc: 39,
  noDomain: 42,
  authFailed: 45,
  noStorageVolume: 50,
  operationInvalid: 55,
  configUnsupported: 67,
  operationTimeout: 68,
  argumentUnsupported: 74,
  noMetadata: 80,
  overflow: 82,
  operationUnsupported: 84,
  agentUnresponsive: 86,
  deviceMissing: 99,
} as const;

/** virErrorDomain: whose error it is. */
export const Domain = { none: 0, rpc: 7, remote: 13, domain: 20, streams: 38, event: 40, auth: 46 } as const;

export const LEVEL_ERROR = 2;

/**
 * An error of libvirt's. The message begins as libvirtd's does: scripts look for it.
 */
export class LibvirtError extends Error {
  /** virErrorNumber: 42, for one, where there is no such domain. */
  readonly code: number;
  /** virErrorDomain: which part of libvirt it comes from; 7 is the protocol, 13 the client, 20 what handles domains. */
  readonly domain: number;
  /** virErrorLevel: 2, or 1 for a warning. */
  readonly level: number;

  constructor(code: number, domain: number, message: string, level: number = LEVEL_ERROR) {
    super(message);
    this.name = 'LibvirtError';
    this.code = code;
    this.domain = domain;
    this.level = level;
  }
}
recognizeAnyCopy(LibvirtError, 'LibvirtError');

/** The payload of an error reply, and of a stream that failed. */
export const errorBody = struct({
  code: i32,
  domain: i32,
  message: optional(str),
  level: i32,
  dom: optional(dom),
  str1: optional(str),
  str2: optional(str),
  str3: optional(str),
  int1: i32,
  int2: i32,
  net: optional(struct({ name: str, uuid })),
});
