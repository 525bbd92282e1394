/** The MADT (ACPI 6.5 §5.2.12): processors, the I/O APIC and how ISA interrupts reach it. */
import { SDT_HEADER_SIZE } from './layout.ts';
import { finishTable, startTable, type TableArea } from './sdt.ts';

const MADT_REVISION = 5;

const TYPE_IOAPIC = 1;
const TYPE_INTERRUPT_OVERRIDE = 2;
const TYPE_X2APIC = 9;
const IOAPIC_LENGTH = 12;
const INTERRUPT_OVERRIDE_LENGTH = 10;
export const X2APIC_LENGTH = 16;
/** Everything that comes before the processors. */
const MADT_FIXED_SIZE = SDT_HEADER_SIZE + 8 + IOAPIC_LENGTH + INTERRUPT_OVERRIDE_LENGTH;

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

/** Bytes of a table for `vcpus` vCPUs. */
export function madtSize(vcpus: number): number {
  return MADT_FIXED_SIZE + vcpus * X2APIC_LENGTH;
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
  view.setUint8(override, TYPE_INTERRUPT_OVERRIDE);
  view.setUint8(override + 1, INTERRUPT_OVERRIDE_LENGTH);
  view.setUint8(override + 3, parameters.serialIrq);
  view.setUint32(override + 4, parameters.serialIrq, true);
  writeProcessors(area.bytes, start + MADT_FIXED_SIZE, parameters.apicIds, parameters.bootVcpus);
  finishTable(area, start, start + madtSize(parameters.apicIds.length));
}

/**
 * Writes an entry for each of `apicIds` (0 to 255) from `at` on (§5.2.12.12), where all is zero so far; the first
 * `bootVcpus` are there at boot. Returns the sum of the bytes.
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
    const apicId = apicIds[index] as number;
    const flags = index < bootVcpus ? ENABLED : ONLINE_CAPABLE;
    bytes[entry] = TYPE_X2APIC;
    bytes[entry + 1] = X2APIC_LENGTH;
    bytes[entry + 4] = apicId;
    bytes[entry + 8] = flags;
    bytes[entry + 12] = index;
    sum += TYPE_X2APIC + X2APIC_LENGTH + apicId + flags + index;
    entry += X2APIC_LENGTH;
  }
  return sum;
}
