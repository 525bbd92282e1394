/** Console files: what is begun anew and when, and what is not taken for one. */
import {
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { diskConfig } from '../../../src/devices/disk.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { openOutput } from '../../../src/vmm/namedFiles.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import type { VmmOptions } from '../../../src/vmm/vmmOptions.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let native: FakeNative;
const vmms: Vmm[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  writeFileSync(at('kernel'), makeElf());
  writeFileSync(at('log'), 'old');
});

afterEach(async () => {
  for (const vmm of vmms.splice(0)) await vmm.quit();
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

const at = (name: string) => join(folder, name);
const text = (name: string) => readFileSync(at(name), 'utf8');

async function created(extra: VmConfigInput, options: Partial<VmmOptions> = {}): Promise<Vmm> {
  const vmm = new Vmm({ native, ...options });
  vmms.push(vmm);
  await vmm.create(
    decode(vmConfig, { payload: { kernel: at('kernel') }, console: { mode: 'Off' }, ...extra }),
  );
  return vmm;
}

const refusal = (work: Promise<unknown>) => work.then(() => 'not refused', describeError);
const serialTo = (name: string): VmConfigInput => ({ serial: { mode: 'File', file: at(name) } });

describe('a console file', () => {
  it('is emptied when the VM is created, and never again in its life', async () => {
    const vmm = await created(serialTo('log'));
    expect(text('log')).toBe('');
    writeFileSync(at('log'), 'first boot');
    await vmm.boot();
    await vmm.reboot();
    await vmm.shutdown();
    await vmm.boot();
    expect(text('log')).toBe('first boot');
    await vmm.delete();
    await vmm.create(decode(vmConfig, { payload: { kernel: at('kernel') }, ...serialTo('log') }));
    expect(text('log')).toBe('');
  });

  it('is not emptied again after the configuration got another device', async () => {
    const vmm = await created(serialTo('log'));
    writeFileSync(at('log'), 'written');
    await vmm.addDevice('disk', decode(diskConfig, { path: at('disk') }));
    writeFileSync(at('disk'), Buffer.alloc(4096));
    await vmm.boot();
    await vmm.reboot();
    expect(text('log')).toBe('written');
  });

  it('is appended to where it was cut meanwhile', async () => {
    const vmm = await created(serialTo('log'));
    await vmm.boot();
    const backend = native.machines[0]?.boot?.serial?.backend;
    const fd = backend?.kind === 'file' ? backend.fd.fd : -1;
    // The core has a duplicate of it, which this is as long as the VM lives.
    native.writeNow(fd, Buffer.from('before'));
    truncateSync(at('log'));
    native.writeNow(fd, Buffer.from('after'));
    expect(text('log')).toBe('after');
  });

  it('may be shared by consoles, by one name or two', async () => {
    linkSync(at('log'), at('other'));
    await created({
      ...serialTo('log'),
      debug_console: { mode: 'File', file: at('other') },
      console: { mode: 'File', file: at('log') },
    });
    expect(text('log')).toBe('');
  });

  it("that is the process's log is not emptied", async () => {
    const fd = openOutput(native, at('log'));
    await created(serialTo('log'), { outputs: [{ owner: 'log', path: at('log'), fd }] });
    expect(text('log')).toBe('old');
    native.closeFile(fd);
  });

  it.each<[string, (file: string) => VmConfigInput]>([
    ['kernel', (kernel) => ({ payload: { kernel } })],
    ['initramfs', (initramfs) => ({ payload: { kernel: at('kernel'), initramfs } })],
    ['firmware', (firmware) => ({ payload: { firmware } })],
    ['disk', (path) => ({ disks: [{ path }] })],
    ['memory', (file) => ({ pmem: [{ file }] })],
    ['source of entropy', (src) => ({ rng: { src } })],
  ])('is not the %s of the VM', async (_name, use) => {
    symlinkSync(at('log'), at('link'));
    for (const name of ['log', 'link']) {
      expect(await refusal(created({ ...serialTo(name), ...use(at('log')) }))).toContain(
        `Cannot use ${at(name)} for the serial: the VM has it as something else`,
      );
    }
    expect(text('log')).toBe('old');
  });

  it('is nothing that somebody has locked', async () => {
    native.files.locked.set(at('log'), [{ fd: 9999, exclusive: false }]);
    expect(await refusal(created(serialTo('log')))).toContain('it is in use and locked');
    expect(text('log')).toBe('old');
  });

  it('is not emptied, and refused at boot, where it is below an image', async () => {
    qcow2Above('log');
    const disks = [{ path: at('top'), image_type: 'Qcow2', backing_files: true }] as const;
    const vmm = await created({ ...serialTo('log'), disks });
    expect(text('log')).toBe('old');
    expect(await refusal(vmm.boot())).toContain('for the serial: the VM has it as something else');
    expect(text('log')).toBe('old');
  });
});

it("a disk that is the process's log is refused at boot", async () => {
  const fd = openOutput(native, at('log'));
  const outputs = [{ owner: 'log', path: at('log'), fd }];
  const vmm = await created({ disks: [{ path: at('log'), image_type: 'Raw' }] }, { outputs });
  expect(await refusal(vmm.boot())).toContain(`Cannot use ${at('log')} for the log`);
  native.closeFile(fd);
});

/** A version 2 header, as the specification has it, with a raw backing file. */
function qcow2Above(name: string): void {
  const header = Buffer.alloc(512);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(2, 4);
  header.writeBigUInt64BE(256n, 8);
  header.writeUInt32BE(at(name).length, 16);
  header.writeUInt32BE(16, 20);
  header.write(at(name), 256);
  // The backing format extension, and the end of extensions.
  header.writeUInt32BE(0xe2792aca, 72);
  header.writeUInt32BE(3, 76);
  header.write('raw', 80);
  writeFileSync(at('top'), header);
}
