/** virtio-blk on raw images: what the guest wrote is in the file, and nothing else. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  diskImage,
  patternSector,
  ROOT,
  RUNTIMES,
  runGuest,
  startGuest,
  temporaryFolder,
} from './support.ts';

const SECTOR = 512;
const FIRST = 8;
const COUNT = 2048;

function expectPattern(file: string, seed: bigint): void {
  const bytes = fs.readFileSync(file);
  for (let sector = FIRST; sector < FIRST + COUNT; sector++) {
    const at = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    if (!at.equals(patternSector(sector, seed))) throw new Error(`sector ${sector} of ${file} differs`);
  }
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('what the guest wrote is in the file', async () => {
    const disk = diskImage(temporaryFolder(), 'disk.img');
    await runGuest({
      cmdline: 'run=blk-rw seed=77',
      args: ['--disk', `path=${disk},image_type=raw`],
      runtime,
    });
    expectPattern(disk, 77n);
    const bytes = fs.readFileSync(disk);
    expect(bytes.length).toBe(8 << 20);
    expect(bytes.subarray(0, FIRST * SECTOR).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray((FIRST + COUNT) * SECTOR).every((byte) => byte === 0)).toBe(true);
  });
});

test('what is in the file the guest reads', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const fd = fs.openSync(disk, 'r+');
  for (let sector = FIRST; sector < FIRST + COUNT; sector++) {
    fs.writeSync(fd, patternSector(sector, 5n), 0, SECTOR, sector * SECTOR);
  }
  fs.closeSync(fd);
  await runGuest({ cmdline: 'run=blk-verify seed=5', args: ['--disk', `path=${disk},image_type=raw`] });
});

test('a flush that was answered survives the death of the process', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const vmm = startGuest({
    cmdline: 'run=blk-rw seed=9 then=idle',
    args: ['--disk', `path=${disk},image_type=raw`],
  });
  await vmm.waitFor('ok blk-flush');
  vmm.kill('SIGKILL');
  await vmm.exit();
  expectPattern(disk, 9n);
});

test('O_DIRECT', async () => {
  // Not in the temporary folder, whose file system may not know O_DIRECT.
  const folder = fs.mkdtempSync(path.join(ROOT, 'build/direct-'));
  try {
    const disk = diskImage(folder, 'disk.img');
    await runGuest({
      // A busy disk may take its time.
      cmdline: 'run=blk-rw,blk-depth seed=3 requests=2000 block-timeout=20000000',
      args: ['--disk', `path=${disk},image_type=raw,direct=on`],
    });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('every ring format, far past the wrap of the indexes', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=blk-depth',
    args: ['--disk', `path=${disk},image_type=raw`],
  });
  expect(output).toContain('ok blk-depth-both');
});

test('completion by interrupt, masked and unmasked', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  await runGuest({ cmdline: 'run=blk-irq,msix-mask', args: ['--disk', `path=${disk},image_type=raw`] });
});

test('serial number, size and features', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img', { size: 5 << 20 });
  const output = await runGuest({
    cmdline: 'run=blk-info',
    args: ['--disk', `path=${disk},image_type=raw,serial=tsvmm-0123456789ABC`],
  });
  expect(output).toContain('serial [tsvmm-0123456789ABC]');
  expect(output).toMatch(/sectors 10240 features 0x[0-9a-f]+ queue-size 128 queues 1 vectors 2/);
  expect(output).toContain('seg-max 126');
});

test('a queue size of its own', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=blk-info,blk-rw',
    args: ['--disk', `path=${disk},image_type=raw,queue_size=16`],
  });
  expect(output).toContain('queue-size 16');
  expect(output).toContain('seg-max 14');
});

test('several disks in the order of the command line', async () => {
  const folder = temporaryFolder();
  const names = ['alpha', 'beta', 'gamma'];
  const disks = names.map((name) => diskImage(folder, `${name}.img`, { text: `I am ${name}` }));
  const output = await runGuest({
    cmdline: 'run=blk-multi',
    args: ['--disk', ...disks.map((disk) => `path=${disk},image_type=raw,readonly=on`)],
  });
  const found = output.split(/\r?\n/).filter((line) => line.startsWith('disk '));
  expect(found).toEqual(
    names.map((name, i) => `disk ${i} slot ${i + 1} sectors 16384 ro 1 status 0 [I am ${name}]`),
  );
});

test('several queues', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=blk-mq',
    args: ['--cpus', 'boot=3', '--disk', `path=${disk},image_type=raw,num_queues=3`],
  });
  expect(output).toContain('queues 3');
});

test('the first sector of an image of unknown format cannot be written', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img', { text: 'guessed' });
  await runGuest({
    cmdline: 'run=blk-rw,blk-sector-0',
    args: ['--disk', `path=${disk}`],
    stderr: /was detected as raw: its guest cannot write to sector 0 unless image_type is given/,
  });
  expect(
    fs
      .readFileSync(disk)
      .subarray(0, SECTOR)
      .every((byte) => byte === 0),
  ).toBe(true);
});
