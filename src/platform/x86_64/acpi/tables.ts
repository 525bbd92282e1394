/**
 * The ACPI tables of a machine, from those of a template machine: a handful of fields differ between machines.
 * Written for the start path, where each loop iteration and each first call of a function counts; the unit tests
 * hold the outcome against `render.ts`.
 */

import { bytesOfBase64 } from '../../../host/base64.ts';
import { MCFG_ENTRY_SIZE, MCFG_SEGMENT } from '../../acpi/mcfg.ts';
import { TABLE_CHECKSUM, TABLE_LENGTH } from '../../acpi/tableHeader.ts';
import { DSDT_OFFSET, MADT_OFFSET, MCFG_OFFSET, TABLE_ALIGNMENT, XSDT_OFFSET } from './layout.ts';
import { LOCAL_APIC_LENGTH, writeProcessors } from './madt.ts';

/** The block of a machine with a serial port, without processors, and with zeros at the places to fill in. */
export interface AcpiTemplate {
  /** Guest address of the block. */
  readonly address: number;
  /** In base64: an array of numbers is eight times as large in memory, and all of it is read when it is loaded. */
  readonly bytes: string;
  /** Places of 32-bit fields in the block. */
  readonly window32Start: number;
  readonly window32Last: number;
  readonly window32Size: number;
  /** Places of 64-bit fields in the block. */
  readonly window64Start: number;
  readonly window64Last: number;
  readonly window64Size: number;
  /** Where the serial port starts in the DSDT, whose end it is, and the sum of its bytes. */
  readonly serialStart: number;
  readonly serialSum: number;
}

export interface AcpiMachine {
  /** Of PCI segment 0, below and above 4 GiB. */
  readonly window32: { readonly start: number; readonly size: number };
  readonly window64: { readonly start: number; readonly size: number };
  readonly hasSerial: boolean;
  /** APIC ids by vCPU index, of all vCPUs that there may ever be; 0 to 254. */
  readonly apicIds: readonly number[];
  readonly bootVcpus: number;
  /** Where ECAM is of the PCI segments behind segment 0. */
  readonly moreEcams: readonly number[];
  /** Tables that only some machines have, wherever they are. */
  readonly others: readonly Uint8Array[];
}

/** Builds the block; the RSDP is at its start. */
export function buildAcpi(template: AcpiTemplate, machine: AcpiMachine): Uint8Array {
  const { window32, window64, apicIds } = machine;
  const fixed = bytesOfBase64(template.bytes);
  const processors = fixed.length;
  const madtEnd = processors + apicIds.length * LOCAL_APIC_LENGTH;
  const bytes = new Uint8Array(endOf(madtEnd, machine.others));
  bytes.set(fixed);
  patch32(bytes, DSDT_OFFSET, template.window32Start, window32.start);
  patch32(bytes, DSDT_OFFSET, template.window32Last, window32.start + window32.size - 1);
  patch32(bytes, DSDT_OFFSET, template.window32Size, window32.size);
  patch(bytes, DSDT_OFFSET, template.window64Start, window64.start);
  patch(bytes, DSDT_OFFSET, template.window64Last, window64.start + window64.size - 1);
  patch(bytes, DSDT_OFFSET, template.window64Size, window64.size);
  if (!machine.hasSerial) {
    bytes.fill(0, template.serialStart, MADT_OFFSET);
    addToSum(bytes, DSDT_OFFSET, -template.serialSum);
    setLength(bytes, DSDT_OFFSET, template.serialStart);
  }
  addToSum(bytes, MADT_OFFSET, writeProcessors(bytes, processors, apicIds, machine.bootVcpus));
  setLength(bytes, MADT_OFFSET, madtEnd);
  for (const ecam of machine.moreEcams) addSegment(bytes, ecam);
  let end = madtEnd;
  for (const table of machine.others) {
    const start = aligned(end);
    bytes.set(table, start);
    addEntry(bytes, template.address + start);
    end = start + table.length;
  }
  return bytes;
}

/** Where the last table ends if these come behind `end`. */
export function endOf(end: number, tables: readonly Uint8Array[]): number {
  let at = end;
  for (const table of tables) at = aligned(at) + table.length;
  return at;
}

export function aligned(at: number): number {
  return (at + TABLE_ALIGNMENT - 1) & -TABLE_ALIGNMENT;
}

/** The XSDT has room behind it (`FADT_OFFSET`), and is shorter than 256 bytes. */
function addEntry(bytes: Uint8Array, address: number): void {
  const length = bytes[XSDT_OFFSET + TABLE_LENGTH] as number;
  patch(bytes, XSDT_OFFSET, XSDT_OFFSET + length, address);
  setLength(bytes, XSDT_OFFSET, XSDT_OFFSET + length + 8);
}

/** The MCFG has room behind it (`DSDT_OFFSET`), and is shorter than 512 bytes. */
function addSegment(bytes: Uint8Array, ecam: number): void {
  const at = MCFG_OFFSET + TABLE_LENGTH;
  const length = (bytes[at] as number) + 256 * (bytes[at + 1] as number);
  const entry = MCFG_OFFSET + length;
  const segment = bytes[entry - MCFG_ENTRY_SIZE + MCFG_SEGMENT] as number;
  patch(bytes, MCFG_OFFSET, entry, ecam);
  patch32(bytes, MCFG_OFFSET, entry + MCFG_SEGMENT, segment + 1);
  setLength(bytes, MCFG_OFFSET, entry + MCFG_ENTRY_SIZE);
}

/** Writes a 32-bit field that holds zero so far, and keeps the sum of `table` at zero. */
function patch32(bytes: Uint8Array, table: number, at: number, value: number): void {
  const low = value | 0;
  bytes[at] = low;
  bytes[at + 1] = low >> 8;
  bytes[at + 2] = low >> 16;
  bytes[at + 3] = low >> 24;
  addToSum(bytes, table, low + (low >> 8) + (low >> 16) + (low >> 24));
}

/** Writes a 64-bit field that holds zero so far, and keeps the sum of `table` at zero. */
function patch(bytes: Uint8Array, table: number, at: number, value: number): void {
  patch32(bytes, table, at, value);
  patch32(bytes, table, at + 4, value / 0x1_0000_0000);
}

/** Makes up for bytes that were added to `table`, or taken away. Modulo 256 as bytes are. */
function addToSum(bytes: Uint8Array, table: number, sum: number): void {
  bytes[table + TABLE_CHECKSUM] = (bytes[table + TABLE_CHECKSUM] as number) - sum;
}

/** Tables are shorter than 64 KiB, so the upper half of the length is zero. */
function setLength(bytes: Uint8Array, table: number, end: number): void {
  const at = table + TABLE_LENGTH;
  const length = end - table;
  const before = (bytes[at] as number) + (bytes[at + 1] as number);
  bytes[at] = length;
  bytes[at + 1] = length >> 8;
  addToSum(bytes, table, length + (length >> 8) - before);
}
