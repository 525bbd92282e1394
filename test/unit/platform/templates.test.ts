import { describe, expect, it } from 'vitest';
import { DSDT_OFFSET, MADT_OFFSET, TABLE_CHECKSUM, TABLE_LENGTH } from '../../../src/platform/acpi/layout.ts';
import { type AcpiMachine, type AcpiTemplate, buildAcpi } from '../../../src/platform/acpi/tables.ts';
import { checksum, getU64, viewOf } from '../../../src/platform/bytes.ts';
import { buildSmbios } from '../../../src/platform/smbios.ts';
import { SMBIOS_ADDRESS } from '../../../src/platform/x86_64/memoryMap.ts';
import { renderTables } from '../../../src/platform/x86_64/renderTables.ts';
import { ACPI_TEMPLATE, SMBIOS_TEMPLATE } from '../../../src/platform/x86_64/tableTemplates.ts';

/** Values that occur nowhere else in the tables, and that need a QWord in AML. */
const MARKED: AcpiMachine = {
  window64: { start: 0x0b_5c7d_1230_0000, size: 0x01_2a4e_9876_0000 },
  hasSerial: true,
  apicIds: [],
  bootVcpus: 0,
};

function findOne(bytes: Uint8Array, value: number): number {
  const view = viewOf(bytes);
  const found: number[] = [];
  for (let at = 0; at + 8 <= bytes.length; at++) {
    if (getU64(view, at) === value) {
      found.push(at);
    }
  }
  expect(found).toHaveLength(1);
  return found[0] as number;
}

function makeTemplate(): AcpiTemplate {
  const bytes = renderTables(MARKED);
  const { start, size } = MARKED.window64;
  const window64Start = findOne(bytes, start);
  const window64Last = findOne(bytes, start + size - 1);
  const window64Size = findOne(bytes, size);
  for (const at of [window64Start, window64Last, window64Size]) {
    bytes.fill(0, at, at + 8);
  }
  const end = DSDT_OFFSET + viewOf(bytes).getUint32(DSDT_OFFSET + TABLE_LENGTH, true);
  bytes[DSDT_OFFSET + TABLE_CHECKSUM] = 0;
  bytes[DSDT_OFFSET + TABLE_CHECKSUM] = checksum(bytes.subarray(DSDT_OFFSET, end));
  const withoutSerial = viewOf(renderTables({ ...MARKED, hasSerial: false }));
  const serialStart = DSDT_OFFSET + withoutSerial.getUint32(DSDT_OFFSET + TABLE_LENGTH, true);
  const serialSum = bytes.subarray(serialStart, MADT_OFFSET).reduce((sum, byte) => sum + byte, 0);
  return {
    bytes: [...bytes],
    window64Start,
    window64Last,
    window64Size,
    serialStart,
    serialSum,
  };
}

function rows(bytes: readonly number[]): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 20) {
    lines.push(`    ${bytes.slice(at, at + 20).join(', ')},`);
  }
  return lines.join('\n');
}

function source(template: AcpiTemplate, smbios: readonly number[]): string {
  const { bytes, ...numbers } = template;
  const fields = Object.entries(numbers).map(([name, value]) => `  ${name}: ${value},`);
  return `/**
 * Tables as bytes, so that a machine starts without building them. Written by
 * \`npx vitest run -u test/unit/platform/templates.test.ts\` from renderTables.ts and smbios.ts: change those.
 */
import type { AcpiTemplate } from '../acpi/tables.ts';

export const ACPI_TEMPLATE: AcpiTemplate = {
  // biome-ignore format: generated
  bytes: [
${rows(bytes)}
  ],
${fields.join('\n')}
};

/** The SMBIOS block of a machine whose configuration says nothing of it. */
// biome-ignore format: generated
export const SMBIOS_TEMPLATE: readonly number[] = [
${rows(smbios)}
];
`;
}

describe('table templates', () => {
  it('are what the table builders write', async () => {
    const smbios = [...buildSmbios(undefined, SMBIOS_ADDRESS, 0x10000)];
    await expect(source(makeTemplate(), smbios)).toMatchFileSnapshot(
      '../../../src/platform/x86_64/tableTemplates.ts',
    );
    expect([...SMBIOS_TEMPLATE]).toEqual(smbios);
  });

  const machines: Record<string, AcpiMachine> = {
    'a small machine': {
      window64: { start: 2 ** 32, size: 2 ** 46 - 2 ** 32 - 17 * 2 ** 16 },
      hasSerial: true,
      apicIds: [0],
      bootVcpus: 1,
    },
    'no serial port': {
      window64: { start: 5 * 2 ** 30, size: 0x0e_dcba_9876_5000 },
      hasSerial: false,
      apicIds: [0, 1, 4, 5],
      bootVcpus: 2,
    },
    'as many vCPUs as possible at 52 bits': {
      window64: { start: 2 ** 44, size: 2 ** 51 },
      hasSerial: true,
      apicIds: Array.from({ length: 254 }, (_, index) => index),
      bootVcpus: 254,
    },
  };
  for (const [name, machine] of Object.entries(machines)) {
    it(`give the same tables as building them: ${name}`, () => {
      expect(buildAcpi(ACPI_TEMPLATE, machine)).toEqual(renderTables(machine));
    });
  }
});
