/** Locks of images beside QEMU's own tools, with the kernel's locks. */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { lockToRead, lockToWrite } from '../../src/devices/disk/imageLock.ts';
import type { NativeAddon } from '../../src/native.ts';
import { ROOT, settles, temporaryFolder } from './support.ts';

const native = createRequire(import.meta.url)(path.join(ROOT, 'dist/tsvmm.node')) as NativeAddon;

const hasQemu = ['qemu-img', 'qemu-io'].every((tool) => spawnSync(tool, ['--version']).status === 0);
if (!hasQemu) console.log('skipped: qemu-img and qemu-io are not installed (Debian: qemu-utils)');

function run(tool: string, ...args: string[]): { readonly code: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' });
  return { code: status, output: stdout + stderr };
}

function open(file: string, flags: number): number {
  const fd = fs.openSync(file, flags);
  onTestFinished(() => fs.closeSync(fd));
  return fd;
}

describe.runIf(hasQemu).each(['raw', 'qcow2'])('an image (%s)', (format) => {
  function image(): string {
    const file = path.join(temporaryFolder(), 'image');
    expect(run('qemu-img', 'create', '-q', '-f', format, file, '4M').code).toBe(0);
    return file;
  }

  test('that is read here can be read by QEMU, and not written', () => {
    const file = image();
    expect(lockToRead(native, open(file, fs.constants.O_RDONLY))).toBe(true);
    expect(lockToRead(native, open(file, fs.constants.O_RDONLY))).toBe(true);
    expect(run('qemu-img', 'info', '-f', format, file)).toMatchObject({ code: 0 });
    const copy = ['convert', '-f', format, '-O', 'raw', file, `${file}.copy`];
    expect(run('qemu-img', ...copy)).toMatchObject({ code: 0 });
    expect(run('qemu-io', '-f', format, '-c', 'write 0 512', file).output).toContain('lock');
    expect(lockToWrite(native, open(file, fs.constants.O_RDWR), false)).toBe(false);
  });

  test.each([true, false])('that is written here is closed to QEMU (whole file: %s)', (whole) => {
    const file = image();
    expect(lockToWrite(native, open(file, fs.constants.O_RDWR), whole)).toBe(true);
    const copy = ['convert', '-f', format, '-O', 'raw', file, `${file}.copy`];
    expect(run('qemu-img', ...copy).output).toContain('lock');
    expect(run('qemu-io', '-f', format, '-c', 'write 0 512', file).output).toContain('lock');
  });

  test.each([
    { what: 'writes', args: [], reads: false },
    { what: 'reads', args: ['-r'], reads: true },
  ])('that QEMU $what is respected here', async ({ args, reads }) => {
    const file = image();
    const qemu = spawn('qemu-io', [...args, '-f', format, file], { stdio: ['pipe', 'ignore', 'ignore'] });
    onTestFinished(() => {
      qemu.kill();
    });
    const writer = open(file, fs.constants.O_RDWR);
    // Its lock is there once it has opened the image.
    await settles(() => {
      const probe = fs.openSync(file, fs.constants.O_RDWR);
      const free = lockToWrite(native, probe, true);
      fs.closeSync(probe);
      expect(free).toBe(false);
    });
    expect(lockToWrite(native, writer, true)).toBe(false);
    expect(lockToRead(native, open(file, fs.constants.O_RDONLY))).toBe(reads);
    qemu.stdin.end('quit\n');
    await new Promise((resolve) => qemu.on('exit', resolve));
  });
});
