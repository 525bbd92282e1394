import { describe, expect, it } from 'vitest';
import { AmlWriter } from '../../../src/platform/acpi/aml.ts';
import { SDT_HEADER_SIZE, TABLE_CHECKSUM, TABLE_LENGTH } from '../../../src/platform/acpi/tableHeader.ts';
import { checksum, getU64, viewOf } from '../../../src/platform/bytes.ts';
import { buildSmbios } from '../../../src/platform/smbios.ts';
import {
  cpu,
  cpuController,
  cpuNotification,
  cpuNotifications,
} from '../../../src/platform/x86_64/acpi/cpuHotplug.ts';
import { buildCpuTable, type CpuPart, type CpuTemplate } from '../../../src/platform/x86_64/acpi/cpuTable.ts';
import { DSDT_OFFSET, MADT_OFFSET } from '../../../src/platform/x86_64/acpi/layout.ts';
import { type AcpiMachine, type AcpiTemplate, buildAcpi } from '../../../src/platform/x86_64/acpi/tables.ts';
import {
  ACPI_ADDRESS,
  CPU_HOTPLUG_ADDRESS,
  CPU_HOTPLUG_SIZE,
  SMBIOS_ADDRESS,
} from '../../../src/platform/x86_64/memoryMap.ts';
import {
  renderCpuTable,
  renderMemoryTable,
  renderTables,
} from '../../../src/platform/x86_64/renderTables.ts';
import {
  ACPI_TEMPLATE,
  CPU_TEMPLATE,
  MEMORY_TABLE,
  SMBIOS_TEMPLATE,
} from '../../../src/platform/x86_64/tableTemplates.ts';

/** Values that occur nowhere else in the tables, and that need a QWord in AML. */
const MARKED: AcpiMachine = {
  window32: { start: 0xc5a3_1000, size: 0x1b2d_7000 },
  moreEcams: [],
  window64: { start: 0x0b_5c7d_1230_0000, size: 0x01_2a4e_9876_0000 },
  hasSerial: true,
  apicIds: [],
  bootVcpus: 0,
  others: [],
};

function findOne(bytes: Uint8Array, value: number, width: 4 | 8): number {
  const view = viewOf(bytes);
  const found: number[] = [];
  for (let at = 0; at + width <= bytes.length; at++) {
    if ((width === 8 ? getU64(view, at) : view.getUint32(at, true)) === value) {
      found.push(at);
    }
  }
  expect(found).toHaveLength(1);
  return found[0] as number;
}

function makeTemplate(): AcpiTemplate {
  const bytes = renderTables(MARKED);
  const take = (value: number, width: 4 | 8) => {
    const at = findOne(bytes, value, width);
    bytes.fill(0, at, at + width);
    return at;
  };
  const { window32, window64 } = MARKED;
  const window32Start = take(window32.start, 4);
  const window32Last = take(window32.start + window32.size - 1, 4);
  const window32Size = take(window32.size, 4);
  const window64Start = take(window64.start, 8);
  const window64Last = take(window64.start + window64.size - 1, 8);
  const window64Size = take(window64.size, 8);
  const end = DSDT_OFFSET + viewOf(bytes).getUint32(DSDT_OFFSET + TABLE_LENGTH, true);
  bytes[DSDT_OFFSET + TABLE_CHECKSUM] = 0;
  bytes[DSDT_OFFSET + TABLE_CHECKSUM] = checksum(bytes.subarray(DSDT_OFFSET, end));
  const withoutSerial = viewOf(renderTables({ ...MARKED, hasSerial: false }));
  const serialStart = DSDT_OFFSET + withoutSerial.getUint32(DSDT_OFFSET + TABLE_LENGTH, true);
  const serialSum = bytes.subarray(serialStart, MADT_OFFSET).reduce((sum, byte) => sum + byte, 0);
  return {
    address: ACPI_ADDRESS,
    bytes: base64(bytes),
    window32Start,
    window32Last,
    window32Size,
    window64Start,
    window64Last,
    window64Size,
    serialStart,
    serialSum,
  };
}

/** What `write` writes for a vCPU, and where it differs between them. */
function makePart(write: (aml: AmlWriter, index: number, apicId: number) => void): CpuPart {
  const bytesOf = (index: number, apicId: number) => {
    const aml = new AmlWriter(new Uint8Array(256), 0);
    write(aml, index, apicId);
    return aml.bytes.subarray(0, aml.position);
  };
  const bytes = bytesOf(0, 0);
  const differing = (others: Uint8Array) =>
    [...bytes].flatMap((byte, at) => (others[at] === byte ? [] : [at]));
  const byIndex = differing(bytesOf(0x98, 0));
  const nameAt = byIndex.find((at) => bytes[at] === '0'.charCodeAt(0)) as number;
  const [apicIdAt = -1, ...more] = differing(bytesOf(0, 0x98));
  expect(more).toEqual([]);
  return { bytes: base64(bytes), indexAt: byIndex.filter((at) => bytes[at] === 0), nameAt, apicIdAt };
}

function makeCpuTemplate(): CpuTemplate {
  const none = renderCpuTable([]);
  const method = new AmlWriter(new Uint8Array(64), 0);
  cpuNotifications(method, () => {});
  const fixed = none.slice(0, none.length - method.position);
  fixed.fill(0, TABLE_LENGTH, TABLE_LENGTH + 4);
  fixed[TABLE_CHECKSUM] = 0;
  const controller = (cpus: number) => {
    const aml = new AmlWriter(new Uint8Array(1024), SDT_HEADER_SIZE);
    cpuController(aml, { address: CPU_HOTPLUG_ADDRESS, size: CPU_HOTPLUG_SIZE }, cpus);
    return aml.bytes;
  };
  const other = controller(0x98);
  return {
    fixed: base64(fixed),
    countAt: controller(0).findIndex((byte, at) => byte !== other[at]),
    cpu: makePart(cpu),
    // Without opcode and length.
    method: base64(method.bytes.subarray(2, method.position)),
    notification: makePart(cpuNotification),
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

const COLUMNS = 100;

/** The text as an expression, after what stands before it in its line. */
function literal(text: string): string {
  const lines: string[] = [];
  for (let at = 0; at < text.length; at += COLUMNS) lines.push(`    '${text.slice(at, at + COLUMNS)}'`);
  return `\n${lines.join(' +\n')}`;
}

function partSource({ bytes, ...numbers }: CpuPart): string {
  return `{
    // biome-ignore format: generated
    bytes:${literal(bytes)},
    indexAt: [${numbers.indexAt.join(', ')}],
    nameAt: ${numbers.nameAt},
    apicIdAt: ${numbers.apicIdAt},
  }`;
}

function source(
  template: AcpiTemplate,
  cpus: CpuTemplate,
  { memory, smbios }: { readonly memory: string; readonly smbios: string },
): string {
  const { bytes, ...numbers } = template;
  const fields = Object.entries(numbers).map(([name, value]) => `  ${name}: ${value},`);
  return `/**
 * Tables as bytes in base64, so that a machine starts without building them. Written by
 * \`npx vitest run -u test/unit/platform/templates.test.ts\` from renderTables.ts and smbios.ts: change those.
 */
import type { CpuTemplate } from './acpi/cpuTable.ts';
import type { AcpiTemplate } from './acpi/tables.ts';

export const ACPI_TEMPLATE: AcpiTemplate = {
  // biome-ignore format: generated
  bytes:${literal(bytes)},
${fields.join('\n')}
};

/** The SSDT of machines with several vCPUs. */
export const CPU_TEMPLATE: CpuTemplate = {
  // biome-ignore format: generated
  fixed:${literal(cpus.fixed)},
  countAt: ${cpus.countAt},
  cpu: ${partSource(cpus.cpu)},
  // biome-ignore format: generated
  method:${literal(cpus.method)},
  notification: ${partSource(cpus.notification)},
};

/** The SSDT of machines that may get more memory. */
// biome-ignore format: generated
export const MEMORY_TABLE: string =${literal(memory)};

/** The SMBIOS block of a machine whose configuration says nothing of it. */
// biome-ignore format: generated
export const SMBIOS_TEMPLATE: string =${literal(smbios)};
`;
}

const SEGMENTS = { window32: { start: 0xc000_0000, size: 0x2800_0000 }, moreEcams: [] };

describe('table templates', () => {
  it('are what the table builders write', async () => {
    const smbios = base64(buildSmbios(undefined, SMBIOS_ADDRESS, 0x10000));
    const memory = base64(renderMemoryTable());
    await expect(source(makeTemplate(), makeCpuTemplate(), { memory, smbios })).toMatchFileSnapshot(
      '../../../src/platform/x86_64/tableTemplates.ts',
    );
    expect(SMBIOS_TEMPLATE).toBe(smbios);
    expect(MEMORY_TABLE).toBe(memory);
  });

  const machines: Record<string, AcpiMachine> = {
    'a small machine': {
      ...SEGMENTS,
      window64: { start: 2 ** 32, size: 2 ** 46 - 2 ** 32 - 17 * 2 ** 16 },
      hasSerial: true,
      apicIds: [0],
      bootVcpus: 1,
      others: [],
    },
    'no serial port': {
      ...SEGMENTS,
      window64: { start: 5 * 2 ** 30, size: 0x0e_dcba_9876_5000 },
      hasSerial: false,
      apicIds: [0, 1, 4, 5],
      bootVcpus: 2,
      others: [renderCpuTable([0, 1, 4, 5])],
    },
    'as many vCPUs as possible at 52 bits': {
      ...SEGMENTS,
      window64: { start: 2 ** 44, size: 2 ** 51 },
      window32: { start: 0xc000_0000, size: 0x280_0000 },
      moreEcams: Array.from({ length: 15 }, (_, index) => 0xe810_0000 + index * 0x10_0000),
      hasSerial: true,
      apicIds: Array.from({ length: 254 }, (_, index) => index),
      bootVcpus: 254,
      others: [renderCpuTable([0, 1]), new Uint8Array(77).fill(1), new Uint8Array(3).fill(2)],
    },
  };
  for (const [name, machine] of Object.entries(machines)) {
    it(`give the same tables as building them: ${name}`, () => {
      expect(buildAcpi(ACPI_TEMPLATE, machine)).toEqual(renderTables(machine));
    });
  }

  for (const apicIds of [[0, 1], [0, 1, 4, 5, 6], Array.from({ length: 254 }, (_, index) => index)]) {
    it(`give the same table of vCPUs as building it: ${apicIds.length} of them`, () => {
      expect(buildCpuTable(CPU_TEMPLATE, apicIds)).toEqual(renderCpuTable(apicIds));
    });
  }
});
