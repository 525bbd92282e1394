/** Persistent memory with a stock guest: a file system on it, without a page cache in between. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { sharedLab } from './harness.ts';

/** The block device comes by a driver of its own, once the memory's has found it. */
const READY = 'modprobe nd_pmem && while [ ! -b /dev/pmem0 ]; do usleep 100000; done';

test('an ext4 with DAX keeps what was written to it, and takes direct I/O of a disk', async () => {
  const lab = await sharedLab();
  await lab.run(['truncate', '-s', '64M', '/tmp/pmem.img']);
  await lab.run(['sh', '-c', 'head -c 8388608 /dev/urandom > /tmp/pmem-disk.img']);
  const disk = ['--disk', 'path=/tmp/pmem-disk.img,image_type=raw,readonly=on'];
  const guest = await LabGuest.boot({ args: ['--pmem', 'file=/tmp/pmem.img', ...disk] });
  await guest.sh(
    `${READY} && mke2fs -q -t ext4 -b 4096 /dev/pmem0 && mkdir -p /mnt && mount -o dax=always /dev/pmem0 /mnt`,
  );
  expect(await guest.sh('mount')).toMatch(/\/dev\/pmem0 .*dax=always/);
  // The disk's data goes straight into the memory behind the file.
  await guest.sh(
    'dd if=/dev/vda of=/mnt/copy bs=1M iflag=direct conv=fsync 2>/dev/null && echo kept > /mnt/text && sync',
  );
  const sums = (await guest.sh('md5sum < /dev/vda; md5sum < /mnt/copy')).trim().split('\n');
  expect(sums[0]).toBe(sums[1]);
  const { body } = await guest.api('GET', 'vm.counters');
  expect((body as Record<string, Record<string, number>>)._pmem1).toMatchObject({ failed_flushes: 0 });
  expect((body as Record<string, Record<string, number>>)._pmem1?.flushes).toBeGreaterThan(0);
  guest.vmm.signal('SIGKILL');
  await guest.vmm.exitCode();

  const again = await LabGuest.boot({ args: ['--pmem', 'file=/tmp/pmem.img,discard_writes=on', ...disk] });
  await again.sh(`${READY} && mkdir -p /mnt && mount -o dax=always /dev/pmem0 /mnt`);
  expect(await again.sh('cat /mnt/text; md5sum < /mnt/copy')).toBe(`kept\n${sums[0]}\n`);
  await again.sh('rm /mnt/copy && sync && umount /mnt');
  expect(await again.kernelMessages()).not.toContain('Call Trace');
  expect(await again.powerOff()).toBe(0);
  // What was discarded is still in the file.
  const { stdout } = await lab.run([
    'sh',
    '-c',
    'mkdir -p /tmp/look && mount -o loop,ro,noload /tmp/pmem.img /tmp/look && ls /tmp/look; umount /tmp/look',
  ]);
  expect(stdout).toContain('copy');
});

test('a folder gives memory that nobody else has', async () => {
  const lab = await sharedLab();
  await lab.run(['mkdir', '-p', '/tmp/pmem-folder']);
  const guest = await LabGuest.boot({ args: ['--pmem', 'file=/tmp/pmem-folder,size=6M'] });
  expect(await guest.sh(`${READY} && cat /sys/block/pmem0/size`)).toBe(`${(6 << 20) / 512}\n`);
  await guest.sh('mke2fs -q /dev/pmem0 && e2fsck -fn /dev/pmem0');
  expect((await lab.run(['ls', '-A', '/tmp/pmem-folder'])).stdout).toBe('');
  expect(await guest.powerOff()).toBe(0);
});
