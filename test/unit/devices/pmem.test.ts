import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { decode } from '../../../src/config/decode.ts';
import { configFromOptions } from '../../../src/config/libraryOptions.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

const MIB = 1 << 20;

function configOf(...words: string[]) {
  const invocation = parseArguments(['--kernel', '/k', ...words]);
  return invocation.action === 'run' ? invocation.options.vm : undefined;
}

describe('options', () => {
  it('of persistent memory', () => {
    const words = ['--pmem', 'file=/a', 'file=/b,size=4M,discard_writes=on,id=b'];
    expect(configOf(...words)?.pmem).toEqual([
      { file: '/a', discard_writes: false, pci_segment: 0 },
      { file: '/b', size: 4 * MIB, discard_writes: true, id: 'b', pci_segment: 0 },
    ]);
    expect(() => configOf('--pmem', 'size=2M')).toThrow('file');
    const library = configFromOptions({ kernel: '/k', pmem: ['/a', { file: '/b' }] });
    expect(library.pmem?.map(({ file }) => file)).toEqual(['/a', '/b']);
  });

  it('of the clock, or none of it', () => {
    expect(configOf('--rtc')?.rtc).toEqual({ pci_segment: 0 });
    expect(configOf('--rtc', '--watchdog')).toMatchObject({ rtc: {}, watchdog: true });
    expect(configOf('--rtc', 'id=clock,pci_device_id=9')?.rtc).toMatchObject({
      id: 'clock',
      pci_device_id: 9,
    });
    expect(configOf()?.rtc).toBeUndefined();
    expect(configFromOptions({ kernel: '/k', rtc: true }).rtc).toEqual({ pci_segment: 0 });
    expect(configFromOptions({ kernel: '/k', rtc: false }).rtc).toBeUndefined();
  });
});

describe('rules', () => {
  const check = (pmem: object) =>
    validateVmConfig(decode(vmConfig, { payload: { kernel: '/k' }, pmem: [pmem] }));
  it.each([{ file: '/f' }, { file: '/f', size: 2 * MIB }])('accept %j', (pmem) => {
    expect(() => check(pmem)).not.toThrow();
  });
  it.each([
    [{ file: '' }, 'needs a file'],
    [{ file: '/f', size: 0 }, 'not a multiple of 2 MiB'],
    [{ file: '/f', size: 3 * MIB }, 'not a multiple of 2 MiB'],
  ])('refuse %j', (pmem, message) => {
    expect(() => check(pmem)).toThrow(message);
  });
});

describe('a machine', () => {
  let folder: string;
  let native: FakeNative;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
    native = fakeNative(folder);
    writeFileSync(join(folder, 'kernel'), makeElf());
  });

  afterEach(() => {
    expect([...native.files.open]).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  function file(name: string, size: number): string {
    const path = join(folder, name);
    writeFileSync(path, '');
    truncateSync(path, size);
    return path;
  }

  async function booted(extra: VmConfigInput): Promise<Vmm> {
    const vmm = new Vmm({ native });
    const payload = { kernel: join(folder, 'kernel') };
    await vmm.create(decode(vmConfig, { payload, console: { mode: 'Off' }, ...extra }));
    try {
      await vmm.boot();
    } catch (error) {
      await vmm.quit();
      throw new Error(describeError(error));
    }
    return vmm;
  }

  const specs = () => native.machines.at(-1)?.boot?.pci.functions ?? [];

  it('maps all of a file, or the size that is asked for', async () => {
    const pmem = [
      { file: file('a', 6 * MIB) },
      { file: file('b', 8 * MIB), size: 2 * MIB, discard_writes: true },
    ];
    const vmm = await booted({ pmem, rtc: {}, balloon: { size: 0 } });
    expect(specs().map(({ kind, id, slot }) => [kind, id, slot])).toEqual([
      ['rng', '__rng', 1],
      ['pmem', '_pmem0', 2],
      ['pmem', '_pmem1', 3],
      ['balloon', '__balloon', 4],
      ['rtc', '__rtc', 5],
    ]);
    expect(specs().filter(({ kind }) => kind === 'pmem')).toMatchObject([
      { size: 6 * MIB, discardWrites: false },
      { size: 2 * MIB, discardWrites: true },
    ]);
    const info = vmm.info();
    expect(info.config.pmem?.map(({ id }) => id)).toEqual(['_pmem0', '_pmem1']);
    const bars = info.device_tree?.['_virtio-pci-_pmem0']?.resources.map(({ PciBar }) => PciBar) ?? [];
    expect(bars.map(({ index, size }) => [index, size])).toEqual([
      [0, 512 * 1024],
      [2, 8 * MIB],
    ]);
    expect((bars[1]?.base ?? 1) % (8 * MIB)).toBe(0);
    expect((specs()[1] as { bar2?: number }).bar2).toBe(bars[1]?.base);
    await vmm.quit();
  });

  it('gets a file without a name in a folder', async () => {
    const before = readdirSync(folder);
    const vmm = await booted({ pmem: [{ file: folder, size: 4 * MIB }] });
    expect(specs()[1]).toMatchObject({ kind: 'pmem', size: 4 * MIB });
    expect(readdirSync(folder)).toEqual(before);
    await vmm.quit();
  });

  it('is refused with a file that is a disk of the same VM', async () => {
    const path = file('both', 4 * MIB);
    await expect(booted({ disks: [{ path, image_type: 'Raw' }], pmem: [{ file: path }] })).rejects.toThrow(
      `Cannot use the persistent memory ${path}: another process, or a disk of this VM, writes to it`,
    );
  });

  it.each([
    ['of an odd length', () => [{ file: file('odd', 3 * MIB) }], 'not a multiple of 2 MiB'],
    ['that is empty', () => [{ file: file('empty', 0) }], 'not a multiple of 2 MiB'],
    ['that is too short', () => [{ file: file('short', 2 * MIB), size: 4 * MIB }], 'fewer than its size'],
    ['that is missing', () => [{ file: '/no/such' }], 'Cannot use the persistent memory /no/such'],
    ['in a missing folder', () => [{ file: '/no/such', size: 2 * MIB }], 'Cannot use the persistent memory'],
    ['that is a folder, without a size', () => [{ file: folder }], 'Cannot use the persistent memory'],
  ])('is refused with a file %s', async (_what, pmem, message) => {
    await expect(booted({ pmem: pmem() })).rejects.toThrow(message);
  });
});
