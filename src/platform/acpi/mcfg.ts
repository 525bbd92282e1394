/** The MCFG table (PCI Firmware 3.3 §4.1.2): where ECAM is. */
import { setU64 } from '../bytes.ts';
import { SDT_HEADER_SIZE } from './layout.ts';
import { finishTable, startTable, type TableArea } from './sdt.ts';

const RESERVED_SIZE = 8;
const ENTRY_SIZE = 16;

/** Writes a table with one entry, for bus 0 of segment 0 at `ecam`. */
export function writeMcfg(area: TableArea, start: number, ecam: number): void {
  startTable(area, start, 'MCFG', 1);
  const entry = start + SDT_HEADER_SIZE + RESERVED_SIZE;
  setU64(area.view, entry, ecam);
  finishTable(area, start, entry + ENTRY_SIZE);
}
