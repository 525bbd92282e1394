import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bytesOfBase64 } from '../../../src/host/base64.ts';
import { renderViot } from '../../../src/platform/acpi/viot.ts';
import { getU64, viewOf } from '../../../src/platform/bytes.ts';
import { buildCpuTable } from '../../../src/platform/x86_64/acpi/cpuTable.ts';
import { buildSlit, buildSrat, type NumaNode } from '../../../src/platform/x86_64/acpi/numa.ts';
import { renderPciSegments } from '../../../src/platform/x86_64/acpi/pciSegments.ts';
import { buildAcpi } from '../../../src/platform/x86_64/acpi/tables.ts';
import { ACPI_TEMPLATE, CPU_TEMPLATE, MEMORY_TABLE } from '../../../src/platform/x86_64/tableTemplates.ts';

const GIB = 2 ** 30;
const NODES: readonly NumaNode[] = [
  {
    id: 0,
    apicIds: [0, 1],
    memory: [
      { address: 0, size: 3 * GIB, hotplug: false },
      { address: 6 * GIB, size: GIB, hotplug: true },
    ],
    distances: new Map([
      [0, 10],
      [3, 33],
    ]),
  },
  {
    id: 3,
    apicIds: [2, 4],
    memory: [{ address: 4 * GIB, size: 2 * GIB, hotplug: false }],
    distances: new Map(),
  },
  { id: 1, apicIds: [], memory: [], initiator: { segment: 0, bdf: 5 << 3 }, distances: new Map([[0, 99]]) },
];
const BLOCK_ADDRESS = 0xa0000;
const MACHINE = {
  window32: { start: 0xc000_0000, size: 0x2800_0000 },
  window64: { start: 2 ** 32, size: 2 ** 46 - 2 ** 32 - 17 * 2 ** 16 },
  moreEcams: [],
  hasSerial: true,
  apicIds: [0, 1, 2, 4],
  bootVcpus: 2,
  others: [buildCpuTable(CPU_TEMPLATE, [0, 1, 2, 4]), buildSrat(NODES), buildSlit(NODES)],
};
const HEADER_SIZE = 36;

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}

function text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** Follows the RSDP as a guest does. Tables by signature. */
function walk(block: Uint8Array): Map<string, Uint8Array> {
  const view = viewOf(block);
  const table = (address: number) => {
    const start = address - BLOCK_ADDRESS;
    return block.slice(start, start + view.getUint32(start + 4, true));
  };
  const xsdt = table(getU64(view, 24));
  const tables = new Map([['XSDT', xsdt]]);
  for (let at = HEADER_SIZE; at < xsdt.length; at += 8) {
    const found = table(getU64(viewOf(xsdt), at));
    tables.set(text(found.subarray(0, 4)), found);
  }
  const fadt = viewOf(tables.get('FACP') as Uint8Array);
  tables.set('FACS', table(fadt.getUint32(36, true)));
  tables.set('DSDT', table(getU64(fadt, 140)));
  return tables;
}

describe('ACPI tables', () => {
  const block = buildAcpi(ACPI_TEMPLATE, MACHINE);
  const tables = walk(block);
  const tableOf = (signature: string) => {
    const table = tables.get(signature) as Uint8Array;
    return { table, view: viewOf(table) };
  };

  it('start with an RSDP of revision 2', () => {
    expect(text(block.subarray(0, 8))).toBe('RSD PTR ');
    expect(sum(block.subarray(0, 20))).toBe(0);
    expect(sum(block.subarray(0, 36))).toBe(0);
    expect(block[15]).toBe(2);
  });

  it('are all there, with right checksums', () => {
    expect([...tables.keys()]).toEqual([
      'XSDT',
      'FACP',
      'APIC',
      'MCFG',
      'SSDT',
      'SRAT',
      'SLIT',
      'FACS',
      'DSDT',
    ]);
    for (const [signature, table] of tables) {
      expect(text(table.subarray(0, 4))).toBe(signature);
      if (signature !== 'FACS') expect(sum(table), signature).toBe(0);
    }
    const { table, view } = tableOf('FACS');
    expect([table.length, table[32]]).toEqual([64, 2]);
    expect(view.getUint32(12, true)).toBe(0);
  });

  it('describe fixed hardware, and what hardware-reduced guests use instead', () => {
    const { table, view } = tableOf('FACP');
    expect(table).toHaveLength(276);
    expect([table[8], table[131]]).toEqual([6, 3]);
    expect(view.getUint32(36, true) % 64).toBe(0);
    expect(view.getUint16(46, true)).toBe(9);
    expect(view.getUint32(48, true)).toBe(0);
    expect([56, 64, 76, 80].map((at) => view.getUint32(at, true))).toEqual([0x60c, 0x610, 0x608, 0x614]);
    expect([88, 89, 91, 92].map((at) => table[at])).toEqual([4, 2, 4, 2]);
    expect([106, 107, 108].map((at) => table[at])).toEqual([0, 0, 0x32]);
    // WBINVD, C1, control method power button, no sleep button, 32-bit timer, reset register.
    expect(view.getUint32(112, true)).toBe(0b101_0011_0101);
    const ioRegister = (at: number) => [table[at], table[at + 1], table[at + 3], getU64(view, at + 4)];
    expect(ioRegister(116)).toEqual([1, 8, 1, 0x600]);
    expect(table[128]).toBe(1);
    expect(ioRegister(148)).toEqual([1, 32, 2, 0x60c]);
    expect(ioRegister(172)).toEqual([1, 16, 2, 0x610]);
    expect(ioRegister(208)).toEqual([1, 32, 3, 0x608]);
    expect(ioRegister(220)).toEqual([1, 16, 1, 0x614]);
    expect(ioRegister(244)).toEqual([1, 8, 1, 0x600]);
    expect(ioRegister(256)).toEqual([1, 8, 1, 0x600]);
  });

  it('list processors, those to come as well, and the I/O APIC', () => {
    const { table, view } = tableOf('APIC');
    expect(view.getUint32(HEADER_SIZE, true)).toBe(0xfee0_0000);
    const entries: number[][] = [];
    for (let at = HEADER_SIZE + 8; at < table.length; at += table[at + 1] as number) {
      const type = table[at] as number;
      if (type === 0) {
        entries.push([type, table[at + 2] as number, table[at + 3] as number, view.getUint32(at + 4, true)]);
      } else if (type === 1) {
        entries.push([
          type,
          table[at + 2] as number,
          view.getUint32(at + 4, true),
          view.getUint32(at + 8, true),
        ]);
      } else {
        entries.push([
          type,
          table[at + 3] as number,
          view.getUint32(at + 4, true),
          view.getUint16(at + 8, true),
        ]);
      }
    }
    expect(entries).toEqual([
      [1, 0, 0xfec0_0000, 0],
      [2, 4, 4, 0],
      [2, 9, 9, 0b1101],
      [0, 0, 0, 1],
      [0, 1, 1, 1],
      [0, 2, 2, 2],
      [0, 3, 4, 2],
    ]);
  });

  it('say where ECAM is', () => {
    const { table, view } = tableOf('MCFG');
    expect(table).toHaveLength(60);
    expect(getU64(view, 44)).toBe(0xe800_0000);
    expect([...table.subarray(52)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('say which processors and memory are near to each other', () => {
    const { table, view } = tableOf('SRAT');
    const entries: unknown[] = [];
    for (let at = HEADER_SIZE + 12; at < table.length; at += table[at + 1] as number) {
      const flags = (place: number) => view.getUint32(at + place, true);
      if (table[at] === 0) entries.push(['cpu', table[at + 2], table[at + 3], flags(4)]);
      else if (table[at] === 5) entries.push(['device', flags(4), view.getUint16(at + 10, true), flags(24)]);
      else entries.push(['memory', flags(2), getU64(view, at + 8), getU64(view, at + 16), flags(28)]);
    }
    expect(entries).toEqual([
      ['cpu', 0, 0, 1],
      ['cpu', 0, 1, 1],
      ['memory', 0, 0, 3 * GIB, 1],
      ['memory', 0, 6 * GIB, GIB, 3],
      ['cpu', 3, 2, 1],
      ['cpu', 3, 4, 1],
      ['memory', 3, 4 * GIB, 2 * GIB, 1],
      ['device', 1, 40, 1],
    ]);
  });

  it('say how far nodes are from each other, with a row for each number', () => {
    const { table, view } = tableOf('SLIT');
    expect(getU64(view, HEADER_SIZE)).toBe(4);
    const rows = [0, 1, 2, 3].map((row) => [...table.subarray(44 + row * 4, 48 + row * 4)]);
    expect(rows).toEqual([
      [10, 20, 255, 33],
      [99, 10, 255, 20],
      [255, 255, 10, 255],
      [20, 20, 255, 10],
    ]);
  });

  it('say where ECAM is of as many segments as there may be', () => {
    const moreEcams = Array.from({ length: 15 }, (_, index) => 0xe810_0000 + index * 0x10_0000);
    const all = walk(buildAcpi(ACPI_TEMPLATE, { ...MACHINE, moreEcams }));
    const table = all.get('MCFG') as Uint8Array;
    const view = viewOf(table);
    expect(table).toHaveLength(44 + 16 * 16);
    expect(sum(table)).toBe(0);
    expect(sum(all.get('DSDT') as Uint8Array)).toBe(0);
    for (let segment = 0; segment < 16; segment++) {
      const entry = 44 + 16 * segment;
      expect(getU64(view, entry)).toBe(0xe800_0000 + segment * 0x10_0000);
      expect(view.getUint16(entry + 8, true)).toBe(segment);
      expect([...table.subarray(entry + 10, entry + 16)]).toEqual([0, 0, 0, 0, 0, 0]);
    }
  });
});

const iasl = spawnSync('iasl', ['-v']);
const noIasl = iasl.error !== undefined;
if (noIasl) {
  console.warn('Skipping what needs iasl: install the package acpica-tools');
}

describe.skipIf(noIasl)('ACPI tables through iasl', () => {
  let directory = '';

  beforeAll(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tsvmm-acpi-'));
  });

  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  function run(...args: string[]): string {
    const { status, stdout, stderr } = spawnSync('iasl', args, { cwd: directory, encoding: 'utf8' });
    const output = stdout + stderr;
    expect(output).not.toMatch(/\berror\b.*[^0 ]|Error +\d+/i);
    expect(status, output).toBe(0);
    return output;
  }

  it('compiles the SSDT of further PCI segments to the same bytes, and ACPICA scans them', () => {
    const segment = (number: number) => ({
      number,
      ecam: { address: 0xe800_0000 + number * 0x10_0000, size: 0x10_0000 },
      window32: { start: 0xc000_0000 + number * 0x100_0000, size: 0x100_0000 },
      window64: { start: 2 ** 40 + number * 2 ** 32, size: 2 ** 32 },
    });
    const table = renderPciSegments(Array.from({ length: 15 }, (_, index) => segment(index + 1)));
    expect(sum(table)).toBe(0);
    const dsdt = walk(buildAcpi(ACPI_TEMPLATE, MACHINE)).get('DSDT') as Uint8Array;
    writeFileSync(path.join(directory, 'SEGS.aml'), table);
    writeFileSync(path.join(directory, 'BASE.aml'), dsdt);
    run('-e', 'BASE.aml', '-d', 'SEGS.aml');
    const source = readFileSync(path.join(directory, 'SEGS.dsl'), 'utf8');
    expect(source).not.toMatch(/Invalid|Unknown|Incorrect checksum/);
    run('-oa', '-p', 'SEGS-again', 'SEGS.dsl');
    const again = readFileSync(path.join(directory, 'SEGS-again.aml'));
    // The compiler tells first what is in other tables.
    const code = Buffer.from(table).subarray(HEADER_SIZE);
    expect(again.subarray(-code.length).equals(code)).toBe(true);
    expect(source).toMatch(/Device \(PC0F\)/);

    /** What the slots hear where each byte of the controller reads as 0x80. */
    const scan = (...tables: string[]) => {
      const batch = 'evaluate \\_SB.PHPR.PSCN; evaluate \\_SB.PC0F._SEG';
      const args = ['-fv', '0x80', '-b', batch, 'BASE.aml', ...tables];
      const { stdout } = spawnSync('acpiexec', args, { cwd: directory, encoding: 'utf8' });
      const told = /Notify on \[(S\w+)\] \S+ Value (0x\w+)/g;
      return { stdout, told: [...stdout.matchAll(told)].map(([, ...one]) => one.join(' ')).sort() };
    };
    const slots = ['S007', 'S015', 'S023', 'S031'];
    const each = slots.flatMap((slot) => [`${slot} 0x01`, `${slot} 0x03`]);
    expect(scan().told).toEqual(each);
    const all = scan('SEGS.aml');
    expect(all.told).toEqual(each.flatMap((one) => new Array(16).fill(one)));
    expect(all.stdout).not.toMatch(/AE_|Exception/);
    expect(all.stdout).toMatch(/Integer\] = 0*F\b/i);
  });

  it('understands the VIOT', () => {
    const table = renderViot({ segment: 0, bdf: 0x30 }, [{ segment: 1, first: 8, last: 0xff }]);
    writeFileSync(path.join(directory, 'VIOT.aml'), table);
    run('-d', 'VIOT.aml');
    const source = readFileSync(path.join(directory, 'VIOT.dsl'), 'utf8');
    if (source.includes('Unknown ACPI table signature')) {
      console.warn('Skipping what needs an iasl that knows the VIOT: that is of 2021 or later');
      return;
    }
    expect(source).not.toMatch(/Invalid|Unknown|Incorrect checksum/);
    expect(source).toMatch(/PCI BDF number : 0030/);
    expect(source).toMatch(/Endpoint start : 00010008/);
    run('-p', 'VIOT-again', 'VIOT.dsl');
  });

  for (const hasSerial of [true, false]) {
    it(`disassemble and compile to the same bytes, serial port: ${hasSerial}`, () => {
      // Compilers of ACPI 6.2 and before drop the online-capable bit, so here all vCPUs are there at boot.
      const tables = walk(buildAcpi(ACPI_TEMPLATE, { ...MACHINE, bootVcpus: 4, hasSerial }));
      for (const [signature, table] of tables) {
        writeFileSync(path.join(directory, `${signature}.aml`), table);
        expect(run('-d', `${signature}.aml`)).toMatch(/Disassembly completed|Formatted output/);
        const source = readFileSync(path.join(directory, `${signature}.dsl`), 'utf8');
        expect(source).not.toMatch(/Invalid|Unknown|Incorrect checksum/);
        // -oa: names stay as long as they are written.
        run('-oa', '-p', 'again', `${signature}.dsl`);
        const again = readFileSync(path.join(directory, 'again.aml'));
        // The compiler writes its own name, and with it another checksum, into the header.
        for (const bytes of [table, again]) {
          if (signature === 'FACS') continue;
          bytes.fill(0, 28, HEADER_SIZE);
          bytes[9] = 0;
        }
        expect(again.toString('hex'), signature).toBe(Buffer.from(table).toString('hex'));
      }
    });
  }

  it('disassemble and compile to the same bytes, the one of memory that comes later', () => {
    writeFileSync(path.join(directory, 'memory.aml'), bytesOfBase64(MEMORY_TABLE));
    run('-d', 'memory.aml');
    const source = readFileSync(path.join(directory, 'memory.dsl'), 'utf8');
    expect(source).not.toMatch(/Invalid|Unknown|Incorrect checksum/);
    run('-oa', '-p', 'again', 'memory.dsl');
    const again = readFileSync(path.join(directory, 'again.aml'));
    expect(again.subarray(HEADER_SIZE)).toEqual(Buffer.from(MEMORY_TABLE, 'base64').subarray(HEADER_SIZE));
  });

  it('name what guests look for', () => {
    const { DSDT } = Object.fromEntries(walk(buildAcpi(ACPI_TEMPLATE, MACHINE)));
    writeFileSync(path.join(directory, 'DSDT.aml'), DSDT as Uint8Array);
    run('-d', 'DSDT.aml');
    const source = readFileSync(path.join(directory, 'DSDT.dsl'), 'utf8');
    for (const device of ['MBRD', 'PC00', 'RTC', 'PWRB', 'VGEN', 'GEC', 'GED', '\\_SB.COM1']) {
      expect(source).toContain(`Device (${device})`);
    }
    expect(source).toContain('Notify (\\_SB.PWRB, 0x80)');
    expect(source).toContain('Notify (\\_SB.VGEN, 0x80)');
    expect(source).toContain('"VM_Gen_Counter"');
    expect(source).toMatch(/Name \(ADDR, Package \(0x02\)[^)]*0x000EF000,\s+Zero/);
    expect(source).toContain('ToUUID ("e5c937d0-3553-4d7a-9117-ea4d19c3434d")');
    expect(source).toMatch(/OperationRegion \(GDST, SystemMemory, 0xFE000000, One\)/);
    expect(source).toMatch(/Scope \(\\_GPE\)\s+\{\s+Method \(_E00, 0, NotSerialized\)/);
    expect(source).toMatch(/Name \(_PRW, Package \(0x02\)[^{]*\{\s+Zero,\s+Zero\s+\}\)/);
    expect(source).toMatch(
      /Device \(RTC\)[\s\S]*?IO \(Decode16,\s+0x0070,[\s\S]*?Edge, ActiveHigh[\s\S]*?0x00000008,/,
    );
    expect(source).toMatch(/0x0000000100000000, \/\/ Range Minimum\s+0x00003FFFFFEEFFFF, \/\/ Range Maximum/);
  });

  /**
   * The table of vCPUs in the interpreter, with memory for registers: each byte is `fill`, and a flag clears the
   * others.
   */
  function interpret(fill: number, ...evaluated: string[]): string {
    const { SSDT } = Object.fromEntries(walk(buildAcpi(ACPI_TEMPLATE, MACHINE)));
    writeFileSync(path.join(directory, 'SSDT.aml'), SSDT as Uint8Array);
    const batch = evaluated.map((name) => `evaluate \\_SB.CPUS.${name}`).join(';');
    const args = ['-fv', `0x${fill.toString(16)}`, '-b', batch, 'SSDT.aml'];
    const { stdout, status } = spawnSync('acpiexec', args, { cwd: directory, encoding: 'utf8' });
    expect(status, stdout).toBe(0);
    expect(stdout).toContain('No outstanding allocations');
    return stdout;
  }
  const ENABLED = 1;
  const INSERTING = 2;
  const REMOVING = 4;
  const notified = (output: string) =>
    [...output.matchAll(/Notify on \[(C\w+)\] \S+ Value (0x\w+)/g)].map(([, ...one]) => one.join(' ')).sort();

  it('tell vCPUs that they came, or are to go', () => {
    const came = interpret(INSERTING, 'C001._STA', 'CSCN', 'C003._MAT');
    expect(came).toContain('[Integer] = 0000000000000000');
    expect(notified(came)).toEqual(['C000 0x01', 'C001 0x01', 'C002 0x01', 'C003 0x01']);
    // What the MADT says of it, but enabled.
    expect(came).toContain('00 08 03 04 01 00 00 00');
    const going = interpret(ENABLED | REMOVING, 'C001._STA', 'CSCN');
    expect(going).toContain('[Integer] = 000000000000000F');
    expect(notified(going)).toEqual(['C000 0x03', 'C001 0x03', 'C002 0x03', 'C003 0x03']);
    expect(notified(interpret(ENABLED, 'CSCN', 'C001._EJ0 1'))).toEqual([]);
  });
});
