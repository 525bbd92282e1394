/** The MCFG table (PCI Firmware 3.3 §4.1.2): where ECAM is. */
import { setU64 } from '../bytes.ts';
import { finishTable, startTable, type TableArea } from './sdt.ts';
import { SDT_HEADER_SIZE } from './tableHeader.ts';

const RESERVED_SIZE = 8;
export const MCFG_ENTRY_SIZE = 16;
/** Of the segment's number in an entry; buses 0 to 0 follow it. */
export const MCFG_SEGMENT = 8;

/** Writes a table with an entry for each segment, by number: its bus 0 is at that address. */
export function writeMcfg(area: TableArea, start: number, ecams: readonly number[]): void {
  startTable(area, start, 'MCFG', 1);
  let entry = start + SDT_HEADER_SIZE + RESERVED_SIZE;
  for (let segment = 0; segment < ecams.length; segment++) {
    setU64(area.view, entry, ecams[segment] as number);
    area.view.setUint16(entry + MCFG_SEGMENT, segment, true);
    entry += MCFG_ENTRY_SIZE;
  }
  finishTable(area, start, entry);
}
