/** The ACPI and SMBIOS tables of an x86_64 machine, ready to be loaded. */
import type { PlatformConfig } from '../../config/vmConfig.ts';
import type { LoadItem } from '../../native.ts';
import { type AcpiMachine, buildAcpi } from '../acpi/tables.ts';
import { buildSmbios } from '../smbios.ts';
import { ACPI_ADDRESS, HIGH_RAM_START, SMBIOS_ADDRESS } from './memoryMap.ts';
import { ACPI_TEMPLATE, SMBIOS_TEMPLATE } from './tableTemplates.ts';

export function tableItems(
  machine: Omit<AcpiMachine, 'others'>,
  platform: PlatformConfig | undefined,
): LoadItem[] {
  const others: readonly Uint8Array[] = [];
  const smbios =
    platform === undefined
      ? new Uint8Array(SMBIOS_TEMPLATE)
      : buildSmbios(platform, SMBIOS_ADDRESS, HIGH_RAM_START - SMBIOS_ADDRESS);
  return [
    { address: ACPI_ADDRESS, bytes: buildAcpi(ACPI_TEMPLATE, { ...machine, others }) },
    { address: SMBIOS_ADDRESS, bytes: smbios },
  ];
}
