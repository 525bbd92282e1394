/** The MCFG table (PCI Firmware 3.3 §4.1.2): where ECAM is. */
import { setU64 } from '../bytes.ts';
import { finishTable, SDT_HEADER_SIZE, startTable, type TableArea } from './sdt.ts';

const RESERVED_SIZE = 8;
const ENTRY_SIZE = 16;

/** Writes a table with one entry, for bus 0 of segment 0 at `ecam`, and returns its guest address. */
export function writeMcfg(area: TableArea, ecam: number): number {
  const start = startTable(area, 'MCFG', 1);
  const entry = start + SDT_HEADER_SIZE + RESERVED_SIZE;
  setU64(area.view, entry, ecam);
  return finishTable(area, start, entry + ENTRY_SIZE);
}
