/**
 * The SSDT with the machine's vCPUs, from a template's parts. Written for the start path, as `tables.ts` is:
 * `cpuHotplug.ts` is what the table means, and the unit tests keep the two the same.
 */
import { bytesOfBase64 } from '../../../host/base64.ts';
import { packageLengthSize, writePackageLength } from '../../acpi/packageLength.ts';
import { TABLE_CHECKSUM, TABLE_LENGTH } from '../../acpi/tableHeader.ts';
import { checksum } from '../../bytes.ts';

/** A part that there is one of for each vCPU, as it is for vCPU 0 with APIC id 0. */
export interface CpuPart {
  /** In base64, as all bytes of templates. */
  readonly bytes: string;
  /** Places of the index. */
  readonly indexAt: readonly number[];
  /** Of the two digits of the index in the name. */
  readonly nameAt: number;
  /** Of the APIC id; none: -1. */
  readonly apicIdAt: number;
}

export interface CpuTemplate {
  /** The table's header, and what comes before the first vCPU. */
  readonly fixed: string;
  /** Where in it their number is. */
  readonly countAt: number;
  readonly cpu: CpuPart;
  /** The last method, up to the vCPUs in it, without its opcode and length. */
  readonly method: string;
  readonly notification: CpuPart;
}

const METHOD_OPCODE = 0x14;

/** @param apicIds by vCPU index, of all vCPUs that there may ever be: at most 254 */
export function buildCpuTable(template: CpuTemplate, apicIds: readonly number[]): Uint8Array {
  const [fixed, method] = [bytesOfBase64(template.fixed), bytesOfBase64(template.method)];
  const [cpu, notification] = [decoded(template.cpu), decoded(template.notification)];
  const count = apicIds.length;
  const methodLength = method.length + count * notification.bytes.length;
  const lengthSize = packageLengthSize(methodLength, 1);
  const methodAt = fixed.length + count * cpu.bytes.length;
  const bytes = new Uint8Array(methodAt + 1 + lengthSize + methodLength);
  bytes.set(fixed);
  bytes[template.countAt] = count;
  writeParts(bytes, fixed.length, cpu, apicIds);
  bytes[methodAt] = METHOD_OPCODE;
  writePackageLength(bytes, methodAt + 1, methodLength + lengthSize, lengthSize);
  bytes.set(method, methodAt + 1 + lengthSize);
  writeParts(bytes, methodAt + 1 + lengthSize + method.length, notification, apicIds);
  setLength(bytes);
  bytes[TABLE_CHECKSUM] = checksum(bytes);
  return bytes;
}

interface DecodedPart extends Omit<CpuPart, 'bytes'> {
  readonly bytes: Uint8Array;
}

function decoded(part: CpuPart): DecodedPart {
  return { ...part, bytes: bytesOfBase64(part.bytes) };
}

function writeParts(bytes: Uint8Array, start: number, part: DecodedPart, apicIds: readonly number[]): void {
  let at = start;
  for (let index = 0; index < apicIds.length; index++) {
    bytes.set(part.bytes, at);
    for (let i = 0; i < part.indexAt.length; i++) bytes[at + (part.indexAt[i] as number)] = index;
    bytes[at + part.nameAt] = hexDigit(index >> 4);
    bytes[at + part.nameAt + 1] = hexDigit(index & 15);
    if (part.apicIdAt >= 0) bytes[at + part.apicIdAt] = apicIds[index] as number;
    at += part.bytes.length;
  }
}

function hexDigit(value: number): number {
  return value < 10 ? 0x30 + value : 0x41 - 10 + value;
}

function setLength(bytes: Uint8Array): void {
  bytes[TABLE_LENGTH] = bytes.length;
  bytes[TABLE_LENGTH + 1] = bytes.length >> 8;
}
