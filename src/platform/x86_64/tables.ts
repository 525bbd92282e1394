/** The ACPI and SMBIOS tables of an x86_64 machine, ready to be loaded. */
import type { VmConfig } from '../../config/vmConfig.ts';
import type { LoadItem } from '../../native.ts';
import { buildAcpi } from '../acpi/acpi.ts';
import { buildSmbios } from '../smbios.ts';
import { planApicIds, type Topology } from './apicId.ts';
import {
  ACPI_ADDRESS,
  ECAM_ADDRESS,
  ECAM_SEGMENT_SIZE,
  GED_GSI,
  GED_SIZE,
  HIGH_RAM_START,
  IOAPIC_ADDRESS,
  LOCAL_APIC_ADDRESS,
  type MemoryMap,
  PCI_WINDOW32,
  PM_TIMER_PORT,
  SERIAL_GSI,
  SERIAL_PORT,
  SLEEP_RESET_PORT,
  SMBIOS_ADDRESS,
} from './memoryMap.ts';

/** Tables for the machine; `hasSerial` says whether the guest has a COM1. */
export function tableItems(
  config: VmConfig,
  map: MemoryMap,
  topology: Topology,
  hasSerial: boolean,
): LoadItem[] {
  const acpi = buildAcpi({
    address: ACPI_ADDRESS,
    dsdt: {
      ecam: { address: ECAM_ADDRESS, size: ECAM_SEGMENT_SIZE },
      window32: PCI_WINDOW32,
      window64: map.window64,
      ged: { address: map.gedAddress, size: GED_SIZE, gsi: GED_GSI },
      serial: hasSerial ? { port: SERIAL_PORT, gsi: SERIAL_GSI } : undefined,
    },
    fadt: { sleepResetPort: SLEEP_RESET_PORT, pmTimerPort: PM_TIMER_PORT },
    madt: {
      localApicAddress: LOCAL_APIC_ADDRESS,
      ioapicAddress: IOAPIC_ADDRESS,
      apicIds: planApicIds(config.cpus.max_vcpus, topology),
      bootVcpus: config.cpus.boot_vcpus,
      serialIrq: SERIAL_GSI,
    },
  });
  const smbios = buildSmbios(config.platform, SMBIOS_ADDRESS, HIGH_RAM_START - SMBIOS_ADDRESS);
  return [
    { address: ACPI_ADDRESS, bytes: acpi },
    { address: SMBIOS_ADDRESS, bytes: smbios },
  ];
}
