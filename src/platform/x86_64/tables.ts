/** The ACPI and SMBIOS tables of an x86_64 machine, ready to be loaded. */
import type { PlatformConfig } from '../../config/vmConfig.ts';
import { bytesOfBase64 } from '../../host/base64.ts';
import type { LoadItem } from '../../native.ts';
import { buildSmbios } from '../smbios.ts';
import { buildCpuTable } from './acpi/cpuTable.ts';
import { buildSlit, buildSrat, type NumaNode } from './acpi/numa.ts';
import { type AcpiMachine, buildAcpi } from './acpi/tables.ts';
import { ACPI_ADDRESS, HIGH_RAM_START, SMBIOS_ADDRESS } from './memoryMap.ts';
import { ACPI_TEMPLATE, CPU_TEMPLATE, MEMORY_TABLE, SMBIOS_TEMPLATE } from './tableTemplates.ts';

export interface TabledMachine extends Omit<AcpiMachine, 'others'> {
  /** ACPI may add memory. */
  readonly growsMemory: boolean;
  /** Empty where the guest is told of none. */
  readonly numa: readonly NumaNode[];
}

/** @param more further tables, of which some machines have none */
export function tableItems(
  machine: TabledMachine,
  platform: PlatformConfig | undefined,
  more: readonly (Uint8Array | undefined)[],
): LoadItem[] {
  const others: Uint8Array[] = [];
  // A machine with one vCPU for good needs no word of others.
  if (machine.apicIds.length > 1) others.push(buildCpuTable(CPU_TEMPLATE, machine.apicIds));
  if (machine.growsMemory) others.push(bytesOfBase64(MEMORY_TABLE));
  if (machine.numa.length > 0) others.push(buildSrat(machine.numa), buildSlit(machine.numa));
  for (const table of more) if (table) others.push(table);
  const smbios =
    platform === undefined
      ? bytesOfBase64(SMBIOS_TEMPLATE)
      : buildSmbios(platform, SMBIOS_ADDRESS, HIGH_RAM_START - SMBIOS_ADDRESS);
  return [
    { address: ACPI_ADDRESS, bytes: buildAcpi(ACPI_TEMPLATE, { ...machine, others }) },
    { address: SMBIOS_ADDRESS, bytes: smbios },
  ];
}
