/** What all system description tables share: their header (ACPI 6.5 §5.2.6) and checksum. */
import { checksum, setAscii } from '../bytes.ts';

export const SDT_HEADER_SIZE = 36;

/** The vendor strings are ours: no guest is known to depend on the reference's. Six and eight characters (§5.2.6). */
const OEM_ID = 'TSVMM ';
const OEM_TABLE_ID_PREFIX = 'TSVM';
const CREATOR_ID = 'TSVM';

const LENGTH_OFFSET = 4;
const CHECKSUM_OFFSET = 9;

/** The memory that tables are built in, back to back. `position` is where the next one starts. */
export interface TableArea {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Guest address of `bytes[0]`. */
  readonly address: number;
  position: number;
}

/** Writes a table's header at the area's position; length and checksum come from `finishTable`. Returns its offset. */
export function startTable(area: TableArea, signature: string, revision: number): number {
  const { bytes, view, position } = area;
  setAscii(bytes, position, signature);
  view.setUint8(position + 8, revision);
  setAscii(bytes, position + 10, OEM_ID);
  setAscii(bytes, position + 16, OEM_TABLE_ID_PREFIX);
  setAscii(bytes, position + 20, signature);
  view.setUint32(position + 24, 1, true);
  setAscii(bytes, position + 28, CREATOR_ID);
  view.setUint32(position + 32, 1, true);
  return position;
}

/** Ends the table that starts at `start` with the byte before `end`. Returns its guest address. */
export function finishTable(area: TableArea, start: number, end: number): number {
  area.view.setUint32(start + LENGTH_OFFSET, end - start, true);
  area.bytes[start + CHECKSUM_OFFSET] = checksum(area.bytes.subarray(start, end));
  // Tables start at multiples of 8, as 64-bit fields in them like to be.
  area.position = (end + 7) & ~7;
  return area.address + start;
}

export { OEM_ID };
