/** How machines end, and start again. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  calmsDown,
  diskImage,
  HELLO,
  openDescriptors,
  RUNTIMES,
  runGuest,
  settles,
  startGuest,
  Tsvmm,
  temporaryFolder,
} from './support.ts';

const CAUSES = ['acpi', 'i8042', 'cmos', 'triple-fault'] as const;

describe.each(RUNTIMES)('%s', (runtime) => {
  test('power-off ends the process with code 0', async () => {
    expect(await runGuest({ cmdline: 'run=off', runtime })).toContain('ok power-off');
  });

  test('the smallest guest', async () => {
    const vmm = new Tsvmm(['--kernel', HELLO, '--cmdline', 'x', '--serial', 'tty', '--console', 'off'], {
      runtime,
    });
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(vmm.stdout.replaceAll('\r', '')).toBe('hello\n');
  });

  test.each(CAUSES)('reset by %s starts the machine again', async (cause) => {
    const disk = diskImage(temporaryFolder(), 'disk.img');
    const output = await runGuest({
      cmdline: `run=reset cause=${cause} boots=3`,
      args: ['--disk', `path=${disk},image_type=raw`],
      runtime,
    });
    expect(output.match(/^boot \d/gm)).toEqual(['boot 1', 'boot 2', 'boot 3']);
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s ends it in order', async (signal) => {
    const socket = path.join(temporaryFolder(), 'api');
    const vmm = startGuest({ cmdline: 'run=spin', args: ['--api-socket', socket], runtime });
    await vmm.waitFor('spinning');
    vmm.kill(signal);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expect(fs.existsSync(socket)).toBe(false);
  });
});

test('a hundred resets leave nothing behind', async () => {
  const resetting = async (boots: number): Promise<Tsvmm> => {
    const vmm = startGuest({
      cmdline: `run=reset cause=i8042 boots=${boots} then=idle`,
      args: ['--disk', `path=${diskImage(temporaryFolder(), 'disk.img')},image_type=raw`],
    });
    await vmm.waitFor('done 1');
    return vmm;
  };
  // Both long enough for the warning, which opens stderr.
  const few = await resetting(20);
  await calmsDown(few.pid);

  const many = await resetting(100);
  expect(many.stderr).toMatch(
    /^tsvmm: warning: The guest resets itself again and again, [\d.]+ times a second, by the keyboard controller[^\n]*\n$/,
  );
  await settles(() => expect(openDescriptors(many.pid)).toBe(openDescriptors(few.pid)));
});

test('a starved watchdog resets the machine', async () => {
  const vmm = startGuest({ cmdline: 'run=watchdog starve=1', args: ['--watchdog'] });
  await vmm.waitFor('starving');
  const start = Date.now();
  await vmm.waitFor(/starving[\s\S]*starving/);
  expect(Date.now() - start).toBeGreaterThan(15_000);
});

test('a fed watchdog does not', async () => {
  await runGuest({ cmdline: 'run=watchdog', args: ['--watchdog'] });
});

test('--no-shutdown keeps the process', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({ cmdline: 'run=off', args: ['--no-shutdown', '--api-socket', socket] });
  await vmm.waitFor('done 1');
  await vmm.ready();
  for (;;) {
    const { json } = await vmm.api('GET', 'vm.info');
    if (json.state === 'Created') break;
  }
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stdout.match(/done 1/g)?.length).toBeGreaterThanOrEqual(1);
});
