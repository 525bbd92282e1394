/** virtio-blk on images of every format, and on disks that get another size. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  diskImage,
  expectAllOk,
  guestArgs,
  patternSector,
  runGuest,
  startGuest,
  Tsvmm,
  temporaryFolder,
} from './support.ts';

const SECTOR = 512;
const FIRST = 8;
const COUNT = 2048;
const SIZE = 8 << 20;

const hasQemuImg = spawnSync('qemu-img', ['--version']).status === 0;
if (!hasQemuImg) console.log('skipped: qemu-img is not installed (Debian: qemu-utils)');

function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}

interface Format {
  /** As tsvmm calls it, and QEMU. */
  readonly type: string;
  readonly qemu: string;
  readonly create: readonly string[];
}

const formats: readonly Format[] = [
  { type: 'raw', qemu: 'raw', create: [] },
  { type: 'qcow2', qemu: 'qcow2', create: [] },
  { type: 'vhd', qemu: 'vpc', create: ['-o', 'subformat=fixed,force_size=on'] },
  { type: 'vhdx', qemu: 'vhdx', create: ['-o', 'block_size=1M'] },
];

function createImage(format: Format, file: string): void {
  qemuImg('create', '-q', '-f', format.qemu, ...format.create, file, `${SIZE}`);
}

/** What a guest sees of an image, by way of QEMU. */
function contentOf(format: Format, file: string): Buffer {
  if (format.type !== 'raw' && format.type !== 'vhd') qemuImg('check', '-q', '-f', format.qemu, file);
  const raw = `${file}.content`;
  qemuImg('convert', '-f', format.qemu, '-O', 'raw', file, raw);
  return fs.readFileSync(raw);
}

function expectPattern(bytes: Buffer, seed: bigint): void {
  for (let sector = FIRST; sector < FIRST + COUNT; sector++) {
    const at = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    if (!at.equals(patternSector(sector, seed))) throw new Error(`sector ${sector} differs`);
  }
}

describe.runIf(hasQemuImg).each(formats)('$type', (format) => {
  test('holds what the guest wrote, whether its type is given or detected', async () => {
    const disk = path.join(temporaryFolder(), 'disk');
    createImage(format, disk);
    await runGuest({
      cmdline: 'run=blk-rw seed=7',
      args: ['--disk', `path=${disk},image_type=${format.type}`],
    });
    const bytes = contentOf(format, disk);
    expect(bytes.length).toBe(SIZE);
    expectPattern(bytes, 7n);
    const guarded = format.type === 'raw' || format.type === 'vhd';
    await runGuest({
      cmdline: `run=blk-verify${guarded ? ',blk-sector-0' : ''},blk-rw seed=7`,
      args: ['--disk', `path=${disk}`],
      ...(guarded && { stderr: /its guest cannot write to sector 0/ }),
    });
  });

  test('keeps what was flushed when the process is killed', async () => {
    const disk = path.join(temporaryFolder(), 'disk');
    createImage(format, disk);
    const vmm = startGuest({
      cmdline: 'run=blk-rw seed=9 then=idle',
      args: ['--disk', `path=${disk},image_type=${format.type}`],
    });
    await vmm.waitFor('ok blk-flush');
    vmm.kill('SIGKILL');
    await vmm.exit();
    await runGuest({
      cmdline: 'run=blk-verify seed=9',
      args: ['--disk', `path=${disk},image_type=${format.type}`],
    });
    expectPattern(contentOf(format, disk), 9n);
  });
});

test.runIf(hasQemuImg)('every format works with every engine', async () => {
  const folder = temporaryFolder();
  for (const format of formats) {
    const disk = path.join(folder, format.type);
    createImage(format, disk);
    for (const engines of ['_disable_io_uring=on', '_disable_io_uring=on,_disable_aio=on']) {
      await runGuest({
        cmdline: 'run=blk-rw',
        args: ['--disk', `path=${disk},image_type=${format.type},${engines}`],
      });
    }
  }
});

test.runIf(hasQemuImg)(
  'overlays leave what is below them alone, and are refused unless allowed',
  async () => {
    const folder = temporaryFolder();
    const [base, middle, top] = ['base', 'middle', 'top'].map((name) => path.join(folder, name)) as [
      string,
      string,
      string,
    ];
    await runGuest({
      cmdline: 'run=blk-rw seed=1',
      args: ['--disk', `path=${diskImage(folder, 'base')},image_type=raw`],
    });
    const before = fs.readFileSync(base);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', middle);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'middle', '-F', 'qcow2', top);
    const allowed = `path=${top},image_type=qcow2,backing_files=on`;
    await runGuest({ cmdline: 'run=blk-verify seed=1', args: ['--disk', allowed] });
    await runGuest({ cmdline: 'run=blk-rw seed=2', args: ['--disk', allowed] });
    expect(fs.readFileSync(base).equals(before)).toBe(true);
    expectPattern(contentOf(formats[1] as Format, top), 2n);
    expectPattern(contentOf(formats[1] as Format, middle), 1n);

    const vmm = startGuest({ cmdline: 'run=blk-verify', args: ['--disk', `path=${top},image_type=qcow2`] });
    expect((await vmm.exit()).code).toBe(1);
    expect(vmm.stderr).toContain(`has the backing file middle, which needs backing_files=on to be opened`);
  },
);

test.runIf(hasQemuImg)('an image that is damaged is refused with the name of its disk', async () => {
  const disk = path.join(temporaryFolder(), 'disk');
  fs.writeFileSync(disk, 'vhdxfile'.padEnd(4 << 20, '\0'));
  const vmm = startGuest({
    cmdline: 'run=blk-info',
    args: ['--disk', `path=${disk},image_type=vhdx,id=data`],
  });
  expect((await vmm.exit()).code).toBe(1);
  expect(vmm.stderr).toContain('data: the VHDX image is damaged: it has no header that is whole');
});

describe('vm.resize-disk', () => {
  const resize = async (vmm: Tsvmm, id: string, size: number) => {
    const { status, text } = await vmm.api('PUT', 'vm.resize-disk', { id, desired_size: size });
    return `${status} ${text}`;
  };

  function start(disk: string): Tsvmm {
    const socket = path.join(temporaryFolder(), 'api');
    return new Tsvmm([
      ...guestArgs({ cmdline: 'run=blk-resize then=idle' }),
      ...['--disk', disk, '--api-socket', `path=${socket}`],
    ]);
  }

  async function resizeWhileRunning(disk: string, size: number): Promise<void> {
    const vmm = start(disk);
    await vmm.waitFor(`waits with ${SIZE / SECTOR} sectors`);
    await vmm.ready();
    const before = await vmm.api('GET', 'vm.info');
    expect(await resize(vmm, '_disk0', size)).toBe('204 ');
    await vmm.waitFor(/done \d/);
    expect((await vmm.api('GET', 'vm.info')).text).toBe(before.text);
    await vmm.api('PUT', 'vmm.shutdown');
    expect((await vmm.exit()).code).toBe(0);
    expect(vmm.stdout).toContain(`has ${size / SECTOR} sectors`);
    expectAllOk(vmm.stdout);
  }

  test.each([SIZE * 2, SIZE / 2, SIZE + SECTOR])('of a raw image to %i bytes', async (size) => {
    const disk = diskImage(temporaryFolder(), 'disk');
    await resizeWhileRunning(`path=${disk},image_type=raw`, size);
    expect(fs.statSync(disk).size).toBe(size);
  });

  test.runIf(hasQemuImg)('of a qcow2 image', async () => {
    const disk = path.join(temporaryFolder(), 'disk');
    createImage(formats[1] as Format, disk);
    await resizeWhileRunning(`path=${disk},image_type=qcow2`, SIZE * 3);
    expect(JSON.parse(qemuImg('info', '--output=json', disk))['virtual-size']).toBe(SIZE * 3);
    qemuImg('check', '-q', disk);
  });

  test.runIf(hasQemuImg)('is refused for what cannot be', async () => {
    const vhdx = path.join(temporaryFolder(), 'disk.vhdx');
    createImage(formats[3] as Format, vhdx);
    const raw = diskImage(temporaryFolder(), 'raw');
    const socket = path.join(temporaryFolder(), 'api');
    const vmm = new Tsvmm([
      ...guestArgs({ cmdline: 'run=blk-multi then=idle' }),
      ...['--disk', `path=${vhdx},image_type=vhdx`, `path=${raw},image_type=raw,readonly=on,id=ro`],
      ...['--api-socket', `path=${socket}`],
    ]);
    await vmm.waitFor('ok blk-multi');
    await vmm.ready();
    const refusals = [
      await resize(vmm, '_disk0', SIZE * 2),
      await resize(vmm, 'ro', SIZE * 2),
      await resize(vmm, '_disk7', SIZE * 2),
      await resize(vmm, '_disk0', 1000),
    ];
    expect(refusals.map((text) => text.slice(0, 3))).toEqual(['500', '500', '404', '500']);
    for (const text of refusals) {
      expect(text).toContain(
        '["Error from API","The disk could not be resized","Failed resizing a disk image",',
      );
    }
    expect(fs.statSync(raw).size).toBe(SIZE);
  });
});
