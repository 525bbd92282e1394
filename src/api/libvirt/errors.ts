/** Errors as libvirt's clients know them. */
import { ConfigError } from '../../config/configError.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { dom, i32, optional, str, struct } from './types.ts';
import { XdrWriter } from './xdr.ts';

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
  noStorageVolume: 50,
  operationInvalid: 55,
  configUnsupported: 67,
  noMetadata: 80,
} as const;

/** virErrorDomain: whose error it is. */
export const Domain = { none: 0, rpc: 7, domain: 20, streams: 38 } as const;

const LEVEL_ERROR = 2;

/** The message begins as libvirtd's does: scripts look for it. */
export class LibvirtError extends Error {
  readonly code: number;
  readonly domain: number;

  constructor(code: number, domain: number, message: string) {
    super(message);
    this.code = code;
    this.domain = domain;
  }
}

export function unsupported(api: string): LibvirtError {
  return new LibvirtError(
    Code.noSupport,
    Domain.none,
    `this function is not supported by the connection driver: ${api}`,
  );
}

export function invalidOperation(what: string): LibvirtError {
  return new LibvirtError(Code.operationInvalid, Domain.domain, `Requested operation is not valid: ${what}`);
}

export function invalidArgument(what: string): LibvirtError {
  return new LibvirtError(Code.invalidArgument, Domain.domain, `invalid argument: ${what}`);
}

export function unsupportedConfiguration(what: string): LibvirtError {
  return new LibvirtError(Code.configUnsupported, Domain.domain, `unsupported configuration: ${what}`);
}

export function noDomain(what: string): LibvirtError {
  return new LibvirtError(Code.noDomain, Domain.domain, `Domain not found: no domain with matching ${what}`);
}

const body = struct({
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
  net: optional(str),
});

/** The payload of an error reply. There is always a message: some clients read it without asking. */
export function encodeError(error: unknown): Uint8Array {
  const { code, domain, message } = toLibvirt(error);
  const writer = new XdrWriter();
  body.write(writer, {
    code,
    domain,
    message,
    level: LEVEL_ERROR,
    dom: undefined,
    str1: undefined,
    str2: undefined,
    str3: undefined,
    int1: -1,
    int2: -1,
    net: undefined,
  });
  return writer.finish();
}

function toLibvirt(error: unknown): Pick<LibvirtError, 'code' | 'domain' | 'message'> {
  if (error instanceof LibvirtError) return error;
  const message = describeError(error);
  if (error instanceof ConfigError) return unsupportedConfiguration(message);
  if (error instanceof VmmError && error.kind === 'conflict') return invalidOperation(message);
  return new LibvirtError(Code.operationFailed, Domain.domain, `operation failed: ${message}`);
}
