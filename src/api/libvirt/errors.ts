/** The errors that the server answers with, in libvirt's terms. */
import { ConfigError } from '../../config/configError.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { Code, Domain, errorBody, LEVEL_ERROR, LibvirtError } from './libvirtError.ts';
import { XdrWriter } from './xdr.ts';

export { Code, Domain, LibvirtError } from './libvirtError.ts';

/** Characters of a message to a client. */
const MAX_TEXT = 16_384;

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

/** For what libvirt has, and nothing here can do. */
export function unsupportedOperation(what: string): LibvirtError {
  return new LibvirtError(Code.operationUnsupported, Domain.domain, `Operation not supported: ${what}`);
}

export function deviceMissing(what: string): LibvirtError {
  return new LibvirtError(Code.deviceMissing, Domain.domain, `device not found: ${what}`);
}

export function noDomain(what: string): LibvirtError {
  return new LibvirtError(Code.noDomain, Domain.domain, `Domain not found: no domain with matching ${what}`);
}

/** The payload of an error reply. There is always a message: some clients read it without asking. */
export function encodeError(error: unknown): Uint8Array {
  const { code, domain, message } = toLibvirt(error);
  // It may quote what was asked for, which may be as long as a message.
  const text = message.slice(0, MAX_TEXT).replaceAll('\0', '\ufffd');
  const writer = new XdrWriter();
  errorBody.write(writer, {
    code,
    domain,
    message: text,
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
