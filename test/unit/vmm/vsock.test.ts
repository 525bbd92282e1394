import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let native: FakeNative;
let socket: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  socket = join(folder, 'vsock');
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

async function created(): Promise<Vmm> {
  const vmm = new Vmm({ native });
  await vmm.create(
    decode(vmConfig, {
      payload: { kernel: join(folder, 'kernel') },
      console: { mode: 'Off' },
      watchdog: true,
      vsock: { cid: 7, socket },
    }),
  );
  return vmm;
}

describe('the vsock', () => {
  it('is placed after the rng and given its listener', async () => {
    const vmm = await created();
    expect(existsSync(socket)).toBe(false);
    await vmm.boot();
    expect(existsSync(socket)).toBe(true);
    const functions = native.machines[0]?.boot?.pci.functions ?? [];
    expect(functions.map(({ id, kind, slot }) => [id, kind, slot])).toEqual([
      ['__rng', 'rng', 1],
      ['_vsock0', 'vsock', 2],
      ['__watchdog', 'watchdog', 3],
    ]);
    expect(functions[1]).toMatchObject({ cid: 7, path: socket, bar0Is64Bit: true });
    const { config, device_tree } = vmm.info();
    expect(config.vsock?.id).toBe('_vsock0');
    expect(device_tree?.['_virtio-pci-_vsock0']?.pci_bdf).toBe('0000:00:02.0');
    await vmm.quit();
    expect(existsSync(socket)).toBe(false);
  });

  it('keeps its listener over a reboot, and no longer', async () => {
    const vmm = await created();
    await vmm.boot();
    const listener = () => native.machines.at(-1)?.boot?.pci.functions.find((f) => f.kind === 'vsock');
    const before = listener();
    await vmm.reboot();
    expect(native.machines).toHaveLength(2);
    expect(listener()).toEqual(before);
    await vmm.shutdown();
    expect(existsSync(socket)).toBe(false);
    await vmm.boot();
    expect(existsSync(socket)).toBe(true);
    await vmm.delete();
    expect(existsSync(socket)).toBe(false);
  });

  it('fails where something is already', async () => {
    writeFileSync(socket, 'mine');
    const vmm = await created();
    await expect(vmm.boot().catch((error) => Promise.reject(describeError(error)))).rejects.toMatch(
      /Cannot listen on the vsock's socket .*vsock: EEXIST/,
    );
    expect(existsSync(socket)).toBe(true);
    await vmm.quit();
    expect(existsSync(socket)).toBe(true);
  });

  it('is not left behind by a machine that cannot start', async () => {
    const vmm = await created();
    native.onBoot = () => {
      throw new Error('no machine');
    };
    await expect(vmm.boot()).rejects.toThrow();
    expect(existsSync(socket)).toBe(false);
    await vmm.quit();
  });

  it('is removed by a process that must end at once', async () => {
    const vmm = await created();
    await vmm.boot();
    vmm.abandon();
    expect(existsSync(socket)).toBe(false);
    await vmm.quit();
  });
});
