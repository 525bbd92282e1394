/** The MADT (ACPI 6.5 §5.2.12): processors, the I/O APIC and how ISA interrupts reach it. */

import { finishTable, startTable, type TableArea } from '../../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../../acpi/tableHeader.ts';

const MADT_REVISION = 5;

const TYPE_LOCAL_APIC = 0;
const TYPE_IOAPIC = 1;
const TYPE_INTERRUPT_OVERRIDE = 2;
const IOAPIC_LENGTH = 12;
const INTERRUPT_OVERRIDE_LENGTH = 10;
export const LOCAL_APIC_LENGTH = 8;
/** Everything that comes before the processors. */
const MADT_FIXED_SIZE = SDT_HEADER_SIZE + 8 + IOAPIC_LENGTH + 2 * INTERRUPT_OVERRIDE_LENGTH;

/** MPS INTI flags (§5.2.12.5): as the ISA bus has it, or active high and level-triggered. */
const CONFORMS_TO_BUS = 0;
const ACTIVE_HIGH_LEVEL = 0x01 | 0x0c;

const ENABLED = 1 << 0;
const ONLINE_CAPABLE = 1 << 1;

export interface MadtParameters {
  readonly localApicAddress: number;
  readonly ioapicAddress: number;
  /** APIC ids by vCPU index, of all vCPUs that there may ever be. */
  readonly apicIds: readonly number[];
  /** How many of them are there at boot. */
  readonly bootVcpus: number;
  /** ISA interrupt of the serial port, wired to the pin of the same number. */
  readonly serialIrq: number;
  /** The SCI, likewise. */
  readonly sciIrq: number;
}

/** Bytes of a table for `vcpus` vCPUs. */
export function madtSize(vcpus: number): number {
  return MADT_FIXED_SIZE + vcpus * LOCAL_APIC_LENGTH;
}

export function writeMadt(area: TableArea, start: number, parameters: MadtParameters): void {
  startTable(area, start, 'APIC', MADT_REVISION);
  const { view } = area;
  view.setUint32(start + SDT_HEADER_SIZE, parameters.localApicAddress, true);
  const ioapic = start + SDT_HEADER_SIZE + 8;
  view.setUint8(ioapic, TYPE_IOAPIC);
  view.setUint8(ioapic + 1, IOAPIC_LENGTH);
  view.setUint32(ioapic + 4, parameters.ioapicAddress, true);
  const override = ioapic + IOAPIC_LENGTH;
  writeOverride(view, override, parameters.serialIrq, CONFORMS_TO_BUS);
  writeOverride(view, override + INTERRUPT_OVERRIDE_LENGTH, parameters.sciIrq, ACTIVE_HIGH_LEVEL);
  writeProcessors(area.bytes, start + MADT_FIXED_SIZE, parameters.apicIds, parameters.bootVcpus);
  finishTable(area, start, start + madtSize(parameters.apicIds.length));
}

function writeOverride(view: DataView, at: number, irq: number, flags: number): void {
  view.setUint8(at, TYPE_INTERRUPT_OVERRIDE);
  view.setUint8(at + 1, INTERRUPT_OVERRIDE_LENGTH);
  view.setUint8(at + 3, irq);
  view.setUint32(at + 4, irq, true);
  view.setUint16(at + 8, flags, true);
}

/**
 * Writes an entry for each of `apicIds` (0 to 254) from `at` on (§5.2.12.2), where all is zero so far; the first
 * `bootVcpus` are there at boot. A kernel without x2APIC ignores processors with the entries that larger ids need.
 * Returns the sum of the bytes.
 */
export function writeProcessors(
  bytes: Uint8Array,
  at: number,
  apicIds: readonly number[],
  bootVcpus: number,
): number {
  let sum = 0;
  let entry = at;
  for (let index = 0; index < apicIds.length; index++) {
    const flags = index < bootVcpus ? ENABLED : ONLINE_CAPABLE;
    sum += writeProcessor(bytes, entry, index, apicIds[index] as number, flags);
    entry += LOCAL_APIC_LENGTH;
  }
  return sum;
}

function writeProcessor(bytes: Uint8Array, at: number, index: number, apicId: number, flags: number): number {
  bytes[at] = TYPE_LOCAL_APIC;
  bytes[at + 1] = LOCAL_APIC_LENGTH;
  bytes[at + 2] = index;
  bytes[at + 3] = apicId;
  bytes[at + 4] = flags;
  return TYPE_LOCAL_APIC + LOCAL_APIC_LENGTH + index + apicId + flags;
}

/** The entry of a processor that is there. */
export function presentProcessor(index: number, apicId: number): Uint8Array {
  const entry = new Uint8Array(LOCAL_APIC_LENGTH);
  writeProcessor(entry, 0, index, apicId, ENABLED);
  return entry;
}
