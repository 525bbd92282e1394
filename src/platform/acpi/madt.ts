/** The MADT (ACPI 6.5 §5.2.12): processors, the I/O APIC and how ISA interrupts reach it. */
import { finishTable, SDT_HEADER_SIZE, startTable, type TableArea } from './sdt.ts';

const MADT_REVISION = 5;

const TYPE_IOAPIC = 1;
const TYPE_INTERRUPT_OVERRIDE = 2;
const TYPE_X2APIC = 9;
const IOAPIC_LENGTH = 12;
const INTERRUPT_OVERRIDE_LENGTH = 10;
export const X2APIC_LENGTH = 16;

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
}

/** Writes the table and returns its guest address. */
export function writeMadt(area: TableArea, parameters: MadtParameters): number {
  const start = startTable(area, 'APIC', MADT_REVISION);
  const { view } = area;
  view.setUint32(start + SDT_HEADER_SIZE, parameters.localApicAddress, true);
  let at = start + SDT_HEADER_SIZE + 8;
  for (let index = 0; index < parameters.apicIds.length; index++) {
    view.setUint8(at, TYPE_X2APIC);
    view.setUint8(at + 1, X2APIC_LENGTH);
    view.setUint32(at + 4, parameters.apicIds[index] as number, true);
    view.setUint32(at + 8, index < parameters.bootVcpus ? ENABLED : ONLINE_CAPABLE, true);
    view.setUint32(at + 12, index, true);
    at += X2APIC_LENGTH;
  }
  view.setUint8(at, TYPE_IOAPIC);
  view.setUint8(at + 1, IOAPIC_LENGTH);
  view.setUint32(at + 4, parameters.ioapicAddress, true);
  at += IOAPIC_LENGTH;
  view.setUint8(at, TYPE_INTERRUPT_OVERRIDE);
  view.setUint8(at + 1, INTERRUPT_OVERRIDE_LENGTH);
  view.setUint8(at + 3, parameters.serialIrq);
  view.setUint32(at + 4, parameters.serialIrq, true);
  return finishTable(area, start, at + INTERRUPT_OVERRIDE_LENGTH);
}
