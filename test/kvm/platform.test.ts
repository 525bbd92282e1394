/** The machine as the guest finds it. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { diskImage, RUNTIMES, runGuest, startGuest, temporaryFolder } from './support.ts';

describe.each(RUNTIMES)('%s', (runtime) => {
  test('boots, prints and powers off', async () => {
    const output = await runGuest({ cmdline: 'run=serial', runtime });
    expect(output.replaceAll('\r', '')).toBe('hello from ring 3\nok serial\ndone 1\n');
  });

  test('more than one vCPU', async () => {
    const output = await runGuest({ cmdline: 'run=smp', args: ['--cpus', 'boot=4'], runtime });
    expect(output).toContain('cpus 4');
  });
});

test('254 vCPUs', async () => {
  const output = await runGuest({ cmdline: 'run=smp', args: ['--cpus', 'boot=254'] });
  expect(output).toContain('cpus 254');
});

test('memory below the hole', async () => {
  const output = await runGuest({ cmdline: 'run=memory', memory: '128M' });
  expect(output).toContain('memory 0x0 size 0xa0000 type 1');
  expect(output).toContain('memory 0x100000 size 0x7f00000 type 1');
  expect(output).toContain('memory 0xe8000000 size 0x10000000 type 2');
});

test('memory around the hole', async () => {
  const output = await runGuest({ cmdline: 'run=memory', memory: '4G' });
  expect(output).toContain('memory 0x100000 size 0xbff00000 type 1');
  expect(output).toContain('memory 0x100000000 size 0x40000000 type 1');
});

test('the initramfs arrives whole', async () => {
  const file = path.join(temporaryFolder(), 'initramfs');
  const bytes = Buffer.alloc(300_001, 0);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff;
  fs.writeFileSync(file, bytes);
  const output = await runGuest({ cmdline: 'run=memory', args: ['--initramfs', file] });
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  expect(output).toContain(`size ${bytes.length}\n`.replace('\n', ''));
  expect(output).toContain(`module sum ${sum}`);
});

test('a long command line', async () => {
  const output = await runGuest({ cmdline: `run=serial ${'x'.repeat(2000)}` });
  expect(output).toContain('hello from ring 3');
});

test('ACPI tables with good checksums', async () => {
  await runGuest({ cmdline: 'run=acpi' });
});

test('the PCI bus, with BARs where the reference has them', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=pci',
    console: 'null',
    args: ['--watchdog', '--disk', `path=${disk},image_type=raw`],
  });
  const slots = output
    .split(/\r?\n/)
    .filter((line) => line.startsWith('slot '))
    .map((line) => line.replace(/bar0 0x[0-9a-f]+ /, ''));
  expect(slots).toEqual([
    'slot 00 id 0d578086 class 060000 size 0x0 32',
    'slot 01 id 10431af4 class ffff00 size 0x80000 64',
    'slot 02 id 10421af4 class 018000 size 0x80000 32',
    'slot 03 id 10441af4 class ffff00 size 0x80000 64',
    'slot 04 id 10631af4 class ffff00 size 0x80000 64',
  ]);
});

test('CPUID', async () => {
  const output = await runGuest({ cmdline: 'run=cpuid', args: ['--cpus', 'boot=1,max_phys_bits=40'] });
  expect(output).toMatch(/hypervisor KVMKVMKVM phys-bits 40/);
});

test('clocks and CMOS', async () => {
  const output = await runGuest({ cmdline: 'run=clocks', memory: '4G' });
  const rtc = /rtc (..)-(..)-(..) (..):(..):(..) century (..)/.exec(output);
  const [, year, month, day, hour, minute, second, century] = rtc ?? [];
  const guest = Date.parse(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  expect(Math.abs(guest - Date.now())).toBeLessThan(20_000);
  expect(output).toContain(`cmos below ${((3 << 20) << 10) >>> 0} above ${1 << 30}`);
});

test('firmware debug ports', async () => {
  const output = await runGuest({ cmdline: 'run=debug-ports', args: ['--debug-console', 'null'] });
  expect(output).toContain('ok debug-402');
});

test.each(['shared=on', 'mergeable=on', 'prefault=on', 'thp=off', 'reserve=on', 'shared=on,prefault=on'])(
  'memory with %s',
  async (options) => {
    const output = await runGuest({ cmdline: 'run=memory,serial', memory: `64M,${options}` });
    expect(output).toContain('memory 0x100000 size 0x3f00000 type 1');
  },
);

test('a vCPU stays on the host CPUs that it was given', async () => {
  const vmm = startGuest({ cmdline: 'run=idle', args: ['--cpus', 'boot=2,affinity=[0@[1],1@[0]]'] });
  await vmm.waitFor('idle');
  const allowed: Record<string, string | undefined> = {};
  for (const tid of fs.readdirSync(`/proc/${vmm.pid}/task`)) {
    const status = fs.readFileSync(`/proc/${vmm.pid}/task/${tid}/status`, 'utf8');
    const name = /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '';
    if (name.startsWith('vcpu')) allowed[name] = /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1];
  }
  expect(allowed).toEqual({ vcpu0: '1', vcpu1: '0' });
});

test('a device in a slot of its own', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=blk-info',
    args: ['--disk', `path=${disk},image_type=raw,pci_device_id=17`],
  });
  expect(output).toContain('slot 17 sectors');
});
