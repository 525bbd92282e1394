/**
 * The x86_64 machine's ACPI tables from first principles. The start path takes `tables.ts` instead, whose template is
 * made from these (see test/unit/platform/templates.test.ts).
 */
import { AmlWriter } from '../acpi/aml.ts';
import { writeMemoryHotplug } from '../acpi/memoryHotplug.ts';
import { finishTable, startTable, type TableArea } from '../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../acpi/tableHeader.ts';
import { viewOf } from '../bytes.ts';
import { writeCpuHotplug } from './acpi/cpuHotplug.ts';
import { renderAcpi } from './acpi/render.ts';
import type { AcpiMachine } from './acpi/tables.ts';
import {
  ACPI_ADDRESS,
  ACPI_EVENTS_PORT,
  CMOS_CENTURY,
  CMOS_GSI,
  CMOS_PORT,
  CPU_HOTPLUG_ADDRESS,
  CPU_HOTPLUG_SIZE,
  ECAM_ADDRESS,
  ECAM_SEGMENT_SIZE,
  GED_ADDRESS,
  GED_GSI,
  GED_SIZE,
  IOAPIC_ADDRESS,
  LOCAL_APIC_ADDRESS,
  MEMORY_HOTPLUG_ADDRESS,
  MEMORY_HOTPLUG_SIZE,
  PCI_HOTPLUG_ADDRESS,
  PCI_HOTPLUG_SIZE,
  PM_TIMER_PORT,
  SCI_GSI,
  SERIAL_GSI,
  SERIAL_PORT,
  SLEEP_RESET_PORT,
  VM_GENERATION_ADDRESS,
} from './memoryMap.ts';

/** The block for `ACPI_ADDRESS`. */
export function renderTables(machine: AcpiMachine): Uint8Array {
  return renderAcpi({
    address: ACPI_ADDRESS,
    dsdt: {
      ecam: { address: ECAM_ADDRESS, size: ECAM_SEGMENT_SIZE },
      window32: machine.window32,
      window64: machine.window64,
      ged: { address: GED_ADDRESS, size: GED_SIZE, gsi: GED_GSI },
      pciHotplug: { address: PCI_HOTPLUG_ADDRESS, size: PCI_HOTPLUG_SIZE },
      vmGeneration: { address: VM_GENERATION_ADDRESS },
      clock: { port: CMOS_PORT, gsi: CMOS_GSI },
      serial: machine.hasSerial ? { port: SERIAL_PORT, gsi: SERIAL_GSI } : undefined,
    },
    fadt: {
      sleepResetPort: SLEEP_RESET_PORT,
      pmTimerPort: PM_TIMER_PORT,
      eventsPort: ACPI_EVENTS_PORT,
      sciGsi: SCI_GSI,
      cmosCentury: CMOS_CENTURY,
    },
    madt: {
      localApicAddress: LOCAL_APIC_ADDRESS,
      ioapicAddress: IOAPIC_ADDRESS,
      apicIds: machine.apicIds,
      bootVcpus: machine.bootVcpus,
      serialIrq: SERIAL_GSI,
      sciIrq: SCI_GSI,
    },
    moreEcams: machine.moreEcams,
    others: machine.others,
  });
}

/** Bytes for a vCPU, and for what is there once: more than they take. */
const SSDT_BYTES_PER_VCPU = 128;
const SSDT_FIXED_BYTES = 1024;
/** For that of memory. */
const SSDT_MEMORY_BYTES = 4096;

/** The SSDT with a machine's vCPUs; the start path's is that of `buildCpuTable`. */
export function renderCpuTable(apicIds: readonly number[]): Uint8Array {
  return renderSsdt(SSDT_FIXED_BYTES + apicIds.length * SSDT_BYTES_PER_VCPU, (aml) => {
    writeCpuHotplug(aml, { address: CPU_HOTPLUG_ADDRESS, size: CPU_HOTPLUG_SIZE, apicIds });
  });
}

/** The SSDT of a machine that may get more memory. */
export function renderMemoryTable(): Uint8Array {
  return renderSsdt(SSDT_MEMORY_BYTES, (aml) => {
    writeMemoryHotplug(aml, { address: MEMORY_HOTPLUG_ADDRESS, size: MEMORY_HOTPLUG_SIZE });
  });
}

function renderSsdt(capacity: number, write: (aml: AmlWriter) => void): Uint8Array {
  const bytes = new Uint8Array(capacity);
  const area: TableArea = { bytes, view: viewOf(bytes), address: 0 };
  startTable(area, 0, 'SSDT', 2);
  const aml = new AmlWriter(bytes, SDT_HEADER_SIZE);
  write(aml);
  finishTable(area, 0, aml.position);
  return bytes.slice(0, aml.position);
}
