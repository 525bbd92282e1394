/** Raw disks under a stock guest: every engine with verification, and space that is given back to the host. */
import { describe, expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

const MIB = 1 << 20;

/** What `qemu-img map` says of a range. */
interface Extent {
  readonly start: number;
  readonly length: number;
  readonly data: boolean;
}

/** fio's own checksums: random sizes with flushes in between, sequential small ones that are merged. */
async function fio(guest: LabGuest, device: string, options: string): Promise<void> {
  const { jobs } = JSON.parse(
    await guest.sh(
      `fio --name=t --filename=${device} --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --do_verify=1 ` +
        `--output-format=json ${options}`,
    ),
  );
  expect(jobs.map(({ error }: { error: number }) => error)).toEqual([0]);
}

describe.each([
  ['page cache', ''],
  ['O_DIRECT', ',direct=on'],
  ['Linux AIO', ',direct=on,_disable_io_uring=on'],
  ['plain system calls', ',direct=on,_disable_io_uring=on,_disable_aio=on'],
])('%s', (name, options) => {
  test('holds what fio writes', async () => {
    const lab = await sharedLab();
    // On the lab's own disk: a memory file system may not know O_DIRECT.
    const file = `/root/raw-${name.replaceAll(' ', '-')}.img`;
    await inLab(lab, `truncate -s 32M ${file}`);
    const guest = await LabGuest.boot({
      cpus: 2,
      args: ['--disk', `path=${file},image_type=raw,num_queues=2${options}`],
    });
    await fio(guest, '/dev/vda', '--size=16M --rw=randwrite --bsrange=4k-64k --fsync=64');
    await fio(guest, '/dev/vda', '--size=6M --rw=write --bs=4k');
    const sum = await guest.sh('md5sum < /dev/vda');
    expect(await guest.kernelMessages()).not.toMatch(/Call Trace|I\/O error/);
    expect(await guest.powerOff()).toBe(0);
    expect(await inLab(lab, `md5sum < ${file}`)).toBe(sum);
    await inLab(lab, `rm ${file}`);
  });
});

test('what the guest discards and zeroes is given back', async () => {
  const lab = await sharedLab();
  const file = '/tmp/sparse.img';
  const allocated = async () => 512 * Number(await inLab(lab, `stat -c %b ${file}`));
  await inLab(lab, `dd if=/dev/urandom of=${file} bs=1M count=32`);
  expect(await allocated()).toBeGreaterThanOrEqual(32 * MIB);
  const guest = await LabGuest.boot({ args: ['--disk', `path=${file},image_type=raw`] });
  expect(await guest.sh('cat /sys/block/vda/queue/discard_max_bytes')).toBe(`${1 << 30}\n`);
  const before = await guest.sh('dd if=/dev/vda bs=1M count=8 | md5sum');
  await guest.sh('blkdiscard --offset 8M --length 16M /dev/vda');
  expect(await allocated()).toBeLessThanOrEqual(17 * MIB);
  await guest.sh('blkdiscard --zeroout --offset 24M --length 4M /dev/vda');
  expect(await guest.sh('dd if=/dev/vda bs=1M skip=24 count=4 iflag=direct | tr -d "\\0" | wc -c')).toBe(
    '0\n',
  );
  expect(await guest.sh('dd if=/dev/vda bs=1M count=8 iflag=direct | md5sum')).toBe(before);
  // A file system that discards what it does not use.
  await guest.sh(
    'mke2fs -q -F -t ext4 -E discard /dev/vda && mkdir -p /mnt && mount -o discard /dev/vda /mnt',
  );
  const empty = await allocated();
  expect(empty).toBeLessThan(8 * MIB);
  await guest.sh('dd if=/dev/urandom of=/mnt/file bs=1M count=12 && sync');
  expect(await allocated()).toBeGreaterThan(12 * MIB);
  await guest.sh('rm /mnt/file && sync && umount /mnt && e2fsck -fn /dev/vda');
  expect(await allocated()).toBeLessThan(empty + 4 * MIB);
  expect(await guest.kernelMessages()).not.toMatch(/Call Trace|I\/O error/);
  expect(await guest.powerOff()).toBe(0);
});

test('a block device of the host is discarded and zeroed by its own commands', async () => {
  const lab = await sharedLab();
  // Of a file system that knows ranges that are allocated and read as zeros.
  const file = '/root/block.img';
  await inLab(lab, `modprobe loop && dd if=/dev/urandom of=${file} bs=1M count=32 && sync`);
  const device = (await inLab(lab, 'losetup -f')).trim();
  await inLab(lab, `losetup ${device} ${file}`);
  const allocated = async () => 512 * Number(await inLab(lab, `sync && stat -c %b ${file}`));
  const settle = 'sync && echo 3 > /proc/sys/vm/drop_caches';
  /** Whether a MiB of the file has data, by what its file system says: what was read and is cached counts as data. */
  const hasData = async (mebibyte: number) => {
    const map: Extent[] = JSON.parse(
      await inLab(lab, `${settle} && qemu-img map -f raw --output=json ${file}`),
    );
    const at = mebibyte * MIB;
    return map.some(({ start, length, data }) => start <= at && at + MIB <= start + length && data);
  };
  const guest = await LabGuest.boot({ args: ['--disk', `path=${device},image_type=raw`] });
  const before = await guest.sh('dd if=/dev/vda bs=1M count=8 | md5sum');
  await guest.sh('blkdiscard --offset 8M --length 16M /dev/vda');
  expect(await allocated()).toBeLessThanOrEqual(17 * MIB);
  expect([await hasData(7), await hasData(8), await hasData(23), await hasData(24)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
  // Zeros that stay allocated, and that nobody has written.
  const kept = await allocated();
  await guest.sh('blkdiscard --zeroout --offset 24M --length 4M /dev/vda');
  expect(await guest.sh('dd if=/dev/vda bs=1M skip=24 count=4 iflag=direct | tr -d "\\0" | wc -c')).toBe(
    '0\n',
  );
  expect([await hasData(24), await hasData(27), await hasData(28)]).toEqual([false, false, true]);
  expect(await allocated()).toBe(kept);
  expect(await guest.sh('dd if=/dev/vda bs=1M count=8 iflag=direct | md5sum')).toBe(before);
  await guest.sh('mke2fs -q -F -t ext4 /dev/vda && mkdir -p /mnt && mount /dev/vda /mnt');
  await guest.sh('dd if=/dev/urandom of=/mnt/file bs=1M count=12 && sync');
  const full = await allocated();
  await guest.sh('rm /mnt/file && sync && fstrim /mnt && umount /mnt && e2fsck -fn /dev/vda');
  expect(await allocated()).toBeLessThan(full - 11 * MIB);
  expect(await guest.kernelMessages()).not.toMatch(/Call Trace|I\/O error/);
  expect(await guest.powerOff()).toBe(0);
  await inLab(lab, `losetup -d ${device} && rm ${file}`);
});
