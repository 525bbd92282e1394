/** What all system description tables share: their header (ACPI 6.5 §5.2.6) and checksum. */
import { checksum, setAscii } from '../bytes.ts';
import { TABLE_CHECKSUM, TABLE_LENGTH } from './tableHeader.ts';

/** The vendor strings are ours: no guest is known to depend on the reference's. Six and eight characters (§5.2.6). */
export const OEM_ID = 'TSVMM ';
const OEM_TABLE_ID_PREFIX = 'TSVM';
const CREATOR_ID = 'TSVM';

/** The memory that tables are built in. */
export interface TableArea {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Guest address of `bytes[0]`. */
  readonly address: number;
}

/** Writes a table's header at `start`; length and checksum come from `finishTable`. */
export function startTable(
  { bytes, view }: TableArea,
  start: number,
  signature: string,
  revision: number,
): void {
  setAscii(bytes, start, signature);
  view.setUint8(start + 8, revision);
  setAscii(bytes, start + 10, OEM_ID);
  setAscii(bytes, start + 16, OEM_TABLE_ID_PREFIX);
  setAscii(bytes, start + 20, signature);
  view.setUint32(start + 24, 1, true);
  setAscii(bytes, start + 28, CREATOR_ID);
  view.setUint32(start + 32, 1, true);
}

/** Ends the table that starts at `start` with the byte before `end`. */
export function finishTable(area: TableArea, start: number, end: number): void {
  area.view.setUint32(start + TABLE_LENGTH, end - start, true);
  area.bytes[start + TABLE_CHECKSUM] = checksum(area.bytes.subarray(start, end));
}
