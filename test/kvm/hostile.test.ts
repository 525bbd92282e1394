/** Guests that break every rule: the VMM lives, the device says so or ignores it, memory and time stay bounded. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  calmsDown,
  diskImage,
  expectAllOk,
  expectOnlyDeviceWarnings,
  nativeThreads,
  openDescriptors,
  privateAnonymousKiB,
  runGuest,
  settles,
  startGuest,
  temporaryFolder,
} from './support.ts';

/** The payload's programs; their files under test/guest/hostile say what each does. */
const PROGRAMS = [
  'hostile-ranges',
  'hostile-cycles',
  'hostile-indirect',
  'hostile-lengths',
  'hostile-overlaps',
  'hostile-rewrite',
  'hostile-places',
  'hostile-avail',
  'hostile-status',
  'hostile-selectors',
  'hostile-widths',
  'hostile-msix',
  'hostile-ports',
  'hostile-config-ports',
  'hostile-config',
  'hostile-config-window',
  'hostile-holes',
  'hostile-platform',
  'hostile-bars',
  'hostile-bars-in-flight',
  'hostile-sectors',
  'hostile-segments',
  'hostile-resets',
  'hostile-appetite',
  'hostile-rng',
  'hostile-console',
  'hostile-watchdog',
  'hostile-break-loop',
] as const;

/** What makes every device have its thread and descriptors. */
const EVERY_DEVICE = 'blk-info,rng,console,watchdog';

const GUEST_KIB = 128 << 10;
const MEMORY_GROWTH_KIB = 8 << 10;

/** What an idle VM of the same make uses. */
async function baseline(args: readonly string[]) {
  const vmm = startGuest({ cmdline: `run=${EVERY_DEVICE} then=idle`, args, console: 'null' });
  await vmm.waitFor('done ');
  await calmsDown(vmm.pid, 100);
  const usage = {
    threads: nativeThreads(vmm.pid),
    descriptors: openDescriptors(vmm.pid),
    memory: privateAnonymousKiB(vmm.pid, GUEST_KIB),
  };
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  return usage;
}

test.each(PROGRAMS)('%s', async (program) => {
  const folder = temporaryFolder();
  const args = ['--disk', `path=${diskImage(folder, 'disk.img', { size: 4 << 20 })},image_type=raw`];
  args.push('--watchdog');
  const before = await baseline(args);
  const vmm = startGuest({ cmdline: `run=${program},${EVERY_DEVICE} then=idle`, args, console: 'null' });
  await vmm.waitFor(/^done \d+\r?\n/m);
  expectAllOk(vmm.stdout);
  expectOnlyDeviceWarnings(vmm.stderr);

  // Nothing is left behind, and nothing goes on working.
  await calmsDown(vmm.pid);
  await settles(() => {
    expect(nativeThreads(vmm.pid)).toEqual(before.threads);
    // The runtime opens standard error anew for its first message.
    expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before.descriptors + 1);
    expect(privateAnonymousKiB(vmm.pid, GUEST_KIB)).toBeLessThan(before.memory + MEMORY_GROWTH_KIB);
  });
  vmm.kill('SIGTERM');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('a BAR that moves is followed', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  await runGuest({ cmdline: 'run=bar-move', args: ['--disk', `path=${disk},image_type=raw`] });
});

test('writes to a read-only disk change nothing', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img', { text: 'precious' });
  const digest = () => createHash('sha256').update(fs.readFileSync(disk)).digest('hex');
  const before = digest();
  await runGuest({
    cmdline: 'run=hostile-read-only',
    args: ['--disk', `path=${disk},image_type=raw,readonly=on`],
  });
  expect(digest()).toBe(before);
});

test('a disk beside a hostile one is not disturbed', async () => {
  const folder = temporaryFolder();
  const args = ['--disk', `path=${diskImage(folder, 'a.img')},image_type=raw`];
  args.push(`path=${diskImage(folder, 'b.img')},image_type=raw`);
  await runGuest({
    cmdline: 'run=hostile-cycles,blk-rw,hostile-ranges,blk-verify disk=1',
    args,
    hostile: true,
  });
});

test('CPUs that fight over a device', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  await runGuest({
    cmdline: 'run=hostile-smp',
    args: ['--cpus', 'boot=4', '--disk', `path=${disk},image_type=raw`],
    hostile: true,
  });
});

test('the API answers while a guest misbehaves', async () => {
  const folder = temporaryFolder();
  const args = ['--disk', `path=${diskImage(folder, 'disk.img')},image_type=raw`];
  args.push('--cpus', 'boot=4', '--api-socket', path.join(folder, 'api'));
  const vmm = startGuest({ cmdline: 'run=hostile-smp time=4000000 then=idle', args });
  await vmm.waitFor('ok smp-others');
  await vmm.ready();
  const end = Date.now() + 2500;
  while (Date.now() < end) {
    for (const command of ['vm.pause', 'vm.resume', 'vm.nmi']) {
      expect((await vmm.api('PUT', command)).status).toBe(204);
    }
    expect((await vmm.api('GET', 'vm.counters')).status).toBe(200);
    expect((await vmm.api('GET', 'vm.info')).json.state).toBe('Running');
  }
  await vmm.waitFor('done 3\n');
  expectAllOk(vmm.stdout);
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  await vmm.waitFor(/done 3[\s\S]*ok smp-others/);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
