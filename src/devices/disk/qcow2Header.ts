/** Reads the part of a qcow2 header that names the backing file. The header is not trusted. */
import { VmmError } from '../../vmm/errors.ts';

export interface BackingReference {
  readonly name: string;
  /** As the image calls it; absent if it does not say. */
  readonly format?: string;
}

/** Header, extensions and backing file name lie in the first cluster (qcow2 specification, "Header"). */
const HEADER_BYTES = 112;
const V2_HEADER_BYTES = 72;
const MIN_V3_HEADER_BYTES = 104;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
const MAX_NAME_BYTES = 1023;
const MAX_FORMAT_BYTES = 64;
const BACKING_FORMAT_EXTENSION = 0xe2792aca;
/** More than images have by far; each takes at least 8 bytes. */
const MAX_EXTENSIONS = 64;

type Read = (offset: number, length: number) => Uint8Array;

/**
 * @param read reads the image; may return fewer bytes at its end
 * @param path what messages call the image
 * @returns undefined for an image that stands for itself
 * @throws VmmError if the header contradicts itself
 */
export function readBackingReference(read: Read, path: string): BackingReference | undefined {
  const damaged = (what: string) => new VmmError(`The qcow2 image ${path} is damaged: ${what}`);
  const header = viewOf(read(0, HEADER_BYTES));
  if (header.byteLength < V2_HEADER_BYTES) throw damaged('its header is cut off');
  const version = header.getUint32(4);
  if (version !== 2 && version !== 3) {
    throw new VmmError(`The qcow2 image ${path} has version ${version}, which is not supported`);
  }
  const offset = header.getBigUint64(8);
  if (offset === 0n) return undefined;
  const clusterBits = header.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw damaged(`its cluster size cannot be 2^${clusterBits}`);
  }
  const clusterSize = 2 ** clusterBits;
  const length = header.getUint32(16);
  if (length === 0 || length > MAX_NAME_BYTES || offset + BigInt(length) > BigInt(clusterSize)) {
    throw damaged('its backing file name is not where it has to be');
  }
  const nameBytes = read(Number(offset), length);
  const name = textOf(nameBytes);
  if (nameBytes.length < length || name === undefined) throw damaged('its backing file name is no text');
  const start = version === 2 ? V2_HEADER_BYTES : headerLength(header);
  if (start === undefined || start > Number(offset)) throw damaged('its header has no sensible length');
  const format = readBackingFormat(read, start, Number(offset), damaged);
  return { name, ...(format !== undefined && { format }) };
}

function headerLength(header: DataView): number | undefined {
  if (header.byteLength < MIN_V3_HEADER_BYTES) return undefined;
  const length = header.getUint32(100);
  return length >= MIN_V3_HEADER_BYTES && length % 8 === 0 ? length : undefined;
}

/** Looks through the header extensions between `start` and `end`. */
function readBackingFormat(
  read: Read,
  start: number,
  end: number,
  damaged: (what: string) => VmmError,
): string | undefined {
  let at = start;
  for (let count = 0; count < MAX_EXTENSIONS; count++) {
    if (at + 8 > end) return undefined;
    const extension = viewOf(read(at, 8));
    if (extension.byteLength < 8) throw damaged('its header is cut off');
    const type = extension.getUint32(0);
    const length = extension.getUint32(4);
    if (type === 0) return undefined;
    if (length > end - at - 8) throw damaged('a header extension is longer than the header');
    if (type === BACKING_FORMAT_EXTENSION) {
      const format = length <= MAX_FORMAT_BYTES ? textOf(read(at + 8, length)) : undefined;
      if (format === undefined) throw damaged('its backing file format is no text');
      return format;
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  throw damaged('its header has too many extensions');
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** UTF-8 without zero bytes; otherwise undefined. */
function textOf(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
