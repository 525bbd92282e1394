/** All ACPI tables of a machine as one block of guest memory: the RSDP first, then the tables that it leads to. */
import { checksum, setAscii, setU64, viewOf } from '../bytes.ts';
import { type DsdtParameters, writeDsdt } from './dsdt.ts';
import { type FadtParameters, writeFadt } from './fadt.ts';
import { type MadtParameters, writeMadt, X2APIC_LENGTH } from './madt.ts';
import { writeMcfg } from './mcfg.ts';
import { finishTable, OEM_ID, SDT_HEADER_SIZE, startTable, type TableArea } from './sdt.ts';

const RSDP_SIZE = 36;
/** The RSDP's first checksum covers what ACPI 1.0 knew (ACPI 6.5 §5.2.5.3). */
const RSDP_V1_SIZE = 20;
/** More than all tables need besides one MADT entry for each vCPU. */
const FIXED_CAPACITY = 2048;

export interface AcpiParameters {
  /** Guest address of the block, at a multiple of 16. */
  readonly address: number;
  readonly dsdt: DsdtParameters;
  readonly fadt: Omit<FadtParameters, 'dsdt'>;
  readonly madt: MadtParameters;
}

/** Builds the block; the RSDP is at its start. */
export function buildAcpi(parameters: AcpiParameters): Uint8Array {
  const bytes = new Uint8Array(FIXED_CAPACITY + X2APIC_LENGTH * parameters.madt.apicIds.length);
  const area: TableArea = { bytes, view: viewOf(bytes), address: parameters.address, position: 40 };
  const dsdt = writeDsdt(area, parameters.dsdt);
  const tables = [
    writeFadt(area, { ...parameters.fadt, dsdt }),
    writeMadt(area, parameters.madt),
    writeMcfg(area, parameters.dsdt.ecam.address),
  ];
  const xsdt = writeXsdt(area, tables);
  writeRsdp(area, xsdt);
  return bytes.subarray(0, area.position);
}

function writeXsdt(area: TableArea, tables: readonly number[]): number {
  const start = startTable(area, 'XSDT', 1);
  let at = start + SDT_HEADER_SIZE;
  for (const table of tables) {
    setU64(area.view, at, table);
    at += 8;
  }
  return finishTable(area, start, at);
}

/** Root system description pointer (ACPI 6.5 §5.2.5.3). */
function writeRsdp({ bytes, view }: TableArea, xsdt: number): void {
  setAscii(bytes, 0, 'RSD PTR ');
  setAscii(bytes, 9, OEM_ID);
  view.setUint8(15, 2);
  view.setUint32(20, RSDP_SIZE, true);
  setU64(view, 24, xsdt);
  bytes[8] = checksum(bytes.subarray(0, RSDP_V1_SIZE));
  bytes[32] = checksum(bytes.subarray(0, RSDP_SIZE));
}
