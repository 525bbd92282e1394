/**
 * All ACPI tables of a machine as one block of guest memory: the RSDP first, then the tables that it leads to.
 *
 * This is what the tables are, table by table. It is too slow for a machine's start, where `tables.ts` patches
 * the outcome of one run of it instead; the unit tests keep the two the same.
 */

import { writeMcfg } from '../../acpi/mcfg.ts';
import { finishTable, OEM_ID, startTable, type TableArea } from '../../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../../acpi/tableHeader.ts';
import { checksum, setAscii, setU64, viewOf } from '../../bytes.ts';
import { type DsdtParameters, writeDsdt } from './dsdt.ts';
import { writeFacs } from './facs.ts';
import { type FadtParameters, writeFadt } from './fadt.ts';
import { DSDT_OFFSET, FACS_OFFSET, FADT_OFFSET, MADT_OFFSET, MCFG_OFFSET, XSDT_OFFSET } from './layout.ts';
import { type MadtParameters, madtSize, writeMadt } from './madt.ts';
import { aligned, endOf } from './tables.ts';

const RSDP_SIZE = 36;
/** The RSDP's first checksum covers what ACPI 1.0 knew (ACPI 6.5 §5.2.5.3). */
const RSDP_V1_SIZE = 20;

export interface AcpiParameters {
  /** Guest address of the block, at a multiple of 16. */
  readonly address: number;
  readonly dsdt: DsdtParameters;
  readonly fadt: Omit<FadtParameters, 'dsdt' | 'facs'>;
  readonly madt: MadtParameters;
  /** Of the PCI segments behind segment 0. */
  readonly moreEcams: readonly number[];
  /** Further tables, which can be anywhere. */
  readonly others: readonly Uint8Array[];
}

/** Builds the block; the RSDP is at its start. */
export function renderAcpi(parameters: AcpiParameters): Uint8Array {
  const { address, dsdt, fadt, madt, moreEcams, others } = parameters;
  const madtEnd = MADT_OFFSET + madtSize(madt.apicIds.length);
  const bytes = new Uint8Array(endOf(madtEnd, others));
  const area: TableArea = { bytes, view: viewOf(bytes), address };
  if (writeDsdt(area, DSDT_OFFSET, dsdt) > MADT_OFFSET) {
    throw new RangeError('The DSDT has outgrown the place up to the next table');
  }
  writeFadt(area, FADT_OFFSET, { ...fadt, dsdt: address + DSDT_OFFSET, facs: address + FACS_OFFSET });
  writeFacs(area, FACS_OFFSET);
  writeMcfg(area, MCFG_OFFSET, [dsdt.ecam.address, ...moreEcams]);
  writeMadt(area, MADT_OFFSET, madt);
  const places: number[] = [];
  let end = madtEnd;
  for (const table of others) {
    const start = aligned(end);
    bytes.set(table, start);
    places.push(start);
    end = start + table.length;
  }
  writeXsdt(area, [FADT_OFFSET, MADT_OFFSET, MCFG_OFFSET, ...places]);
  writeRsdp(area);
  return bytes;
}

function writeXsdt(area: TableArea, tables: readonly number[]): void {
  startTable(area, XSDT_OFFSET, 'XSDT', 1);
  let at = XSDT_OFFSET + SDT_HEADER_SIZE;
  for (const table of tables) {
    setU64(area.view, at, area.address + table);
    at += 8;
  }
  if (at > FADT_OFFSET) throw new RangeError('The XSDT has outgrown the place up to the next table');
  finishTable(area, XSDT_OFFSET, at);
}

/** Root system description pointer (ACPI 6.5 §5.2.5.3). */
function writeRsdp({ bytes, view, address }: TableArea): void {
  setAscii(bytes, 0, 'RSD PTR ');
  setAscii(bytes, 9, OEM_ID);
  view.setUint8(15, 2);
  view.setUint32(20, RSDP_SIZE, true);
  setU64(view, 24, address + XSDT_OFFSET);
  bytes[8] = checksum(bytes.subarray(0, RSDP_V1_SIZE));
  bytes[32] = checksum(bytes.subarray(0, RSDP_SIZE));
}
