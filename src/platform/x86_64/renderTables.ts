/**
 * The x86_64 machine's ACPI tables from first principles. The start path takes `tables.ts` instead, whose template is
 * made from these (see test/unit/platform/templates.test.ts).
 */
import { renderAcpi } from '../acpi/render.ts';
import type { AcpiMachine } from '../acpi/tables.ts';
import {
  ACPI_ADDRESS,
  ACPI_EVENTS_PORT,
  CMOS_CENTURY,
  CMOS_GSI,
  CMOS_PORT,
  ECAM_ADDRESS,
  ECAM_SEGMENT_SIZE,
  GED_ADDRESS,
  GED_GSI,
  GED_SIZE,
  IOAPIC_ADDRESS,
  LOCAL_APIC_ADDRESS,
  PCI_HOTPLUG_ADDRESS,
  PCI_HOTPLUG_SIZE,
  PCI_WINDOW32,
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
      window32: PCI_WINDOW32,
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
  });
}
