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

/** Bytes of the file that are not in holes. */
function allocatedBytes(file: string): number {
  return fs.statSync(file).blocks * 512;
}

test('discarded ranges become holes, zeroed ones read as zeros, bad ones are refused', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const output = await runGuest({
    cmdline: 'run=blk-ranges seed=11',
    args: ['--disk', `path=${disk},image_type=raw`],
  });
  expect(output).toContain('discard 2097152 sectors 16 segments, aligned to 8, zeroes 131072 sectors');
  const bytes = fs.readFileSync(disk);
  const MIB = 1 << 20;
  const at = (start: number) => bytes.subarray(start, start + MIB);
  expect(at(0).every((byte) => byte === 0x77)).toBe(true);
  expect(at(MIB).every((byte) => byte === 0)).toBe(true);
  expect(at(2 * MIB).every((byte) => byte === 0x77)).toBe(true);
  expect(allocatedBytes(disk)).toBe(3 * MIB);
});

test('sparse=off keeps the space', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  await runGuest({
    cmdline: 'run=blk-no-ranges',
    args: ['--disk', `path=${disk},image_type=raw,sparse=off`],
  });
});

/** What a disk in a folder says, given what it says on an ordinary file system. */
function engineIn(folder: string, engine: string, direct: boolean): string {
  const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
  const TMPFS_MAGIC = 0x01021994;
  const { type } = fs.statfsSync(folder);
  if (type === TMPFS_MAGIC) return 'plain system calls (nothing waits in memory)';
  if (type === OVERLAYFS_SUPER_MAGIC && engine === 'io_uring' && !direct) {
    return 'plain system calls (the file system cannot tell which reads would wait)';
  }
  return engine;
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

test.each([
  ['', false, 'io_uring'],
  ['direct=on', true, 'io_uring'],
  ['_disable_io_uring=on', false, 'plain system calls (io_uring is disabled)'],
  ['direct=on,_disable_io_uring=on', true, 'Linux AIO (io_uring is disabled)'],
  [
    'direct=on,_disable_io_uring=on,_disable_aio=on',
    true,
    'plain system calls (io_uring is disabled, Linux AIO is disabled)',
  ],
])('engines: %s', async (options, direct, engine) => {
  const folder = direct ? fs.mkdtempSync(path.join(ROOT, 'build/direct-')) : temporaryFolder();
  try {
    const disk = diskImage(folder, 'disk.img');
    const expected = engineIn(folder, engine, direct);
    await runGuest({
      cmdline: 'run=blk-rw,blk-ranges seed=21 block-timeout=20000000',
      args: ['-v', '--disk', `path=${disk},image_type=raw${options && `,${options}`}`],
      stderr: new RegExp(`virtio-device note {"id":"_disk0","text":"I/O by ${escaped(expected)}"}`),
    });
  } finally {
    if (direct) fs.rmSync(folder, { recursive: true });
  }
});

test('a rate limit holds the guest back', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const start = Date.now();
  await runGuest({
    cmdline: 'run=blk-rw',
    // 2 MiB go through at 1 MiB in 250 ms, the first of it at once.
    args: ['--disk', `path=${disk},image_type=raw,bw_size=1048576,bw_refill_time=250`],
  });
  expect(Date.now() - start).toBeGreaterThan(240);
});

test('the disks of a group share its rate limit', async () => {
  const folder = temporaryFolder();
  const disks = ['a.img', 'b.img'].map((name) => diskImage(folder, name));
  const start = Date.now();
  await runGuest({
    cmdline: 'run=blk-rw-each',
    // 2 MiB to and from each. Two limits would let the first MiB of both through at once, and the rest in 2 s.
    args: [
      ...['--rate-limit-group', 'id=slow,bw_size=1048576,bw_refill_time=1000'],
      ...['--disk', ...disks.map((path) => `path=${path},image_type=raw,rate_limit_group=slow`)],
    ],
  });
  expect(Date.now() - start).toBeGreaterThan(2900);
});

test('a queue runs on the host CPUs that it is given', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const vmm = startGuest({
    cmdline: 'run=blk-rw then=idle',
    args: ['--disk', `path=${disk},image_type=raw,queue_affinity=[0@[1]]`],
  });
  await vmm.waitFor('ok blk-read');
  const tasks = `/proc/${vmm.pid}/task`;
  const queue = fs
    .readdirSync(tasks)
    .find((task) => fs.readFileSync(`${tasks}/${task}/comm`, 'utf8').trim() === '_disk0_q0');
  expect(fs.readFileSync(`${tasks}/${queue}/status`, 'utf8')).toMatch(/Cpus_allowed_list:\s+1\n/);
});
