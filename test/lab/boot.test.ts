/** Stock Linux from the first instruction to power-off, by every way in. */
import { expect, test } from 'vitest';
import { guestFiles, sharedLab, VmmSession } from './harness.ts';

const { bzImage, vmlinux, initramfs, disk } = guestFiles;
const serial = ['--serial', 'tty', '--console', 'off'];
const hvc = ['--serial', 'off', '--console', 'tty'];

test('a bzImage gives a shell on the serial port and powers off', async () => {
  const vm = new VmmSession(await sharedLab(), [
    ...['--kernel', bzImage, '--initramfs', initramfs, '--cmdline', 'console=ttyS0'],
    ...['--memory', 'size=256M', ...serial],
  ]);
  await vm.expect('Linux version 6.');
  await vm.expect('is up: 1 vCPU');
  await vm.type('echo $((6 * 7)) is $(uname -s)');
  await vm.expect('42 is Linux');
  await vm.type('poweroff -f');
  await vm.expect('reboot: Power down');
  expect(await vm.exitCode()).toBe(0);
  expect(vm.errors).toBe('');
});

test('a PVH kernel runs on two vCPUs with a disk as its root and a virtio console', async () => {
  const lab = await sharedLab();
  await lab.run(['cp', disk, '/tmp/root.img']);
  const vm = new VmmSession(lab, [
    ...['--kernel', vmlinux, '--initramfs', initramfs, '--cmdline', 'console=hvc0 quiet root=/dev/vda'],
    ...['--cpus', 'boot=2', '--memory', 'size=256M', ...hvc],
    ...['--disk', 'path=/tmp/root.img,image_type=raw,serial=tsvmm-root'],
  ]);
  await vm.expect('is up: 2 vCPU');
  await vm.expect('root on /dev/vda');
  await vm.type('cat /etc/motd /sys/block/vda/serial');
  await vm.expect('This file is on the disk.');
  await vm.expect('tsvmm-root');
  await vm.type('grep -c virtio /proc/interrupts; cat /sys/devices/virtual/misc/hw_random/rng_current');
  await vm.expect('virtio_rng');
  await vm.type('dd if=/dev/urandom of=/root/data bs=64k count=64 2>/dev/null; md5sum /root/data; sync');
  await vm.expect('/root/data');
  await vm.type('echo 3 > /proc/sys/vm/drop_caches; md5sum /root/data; poweroff -f');
  expect(await vm.exitCode()).toBe(0);
  const sums = [...vm.text.matchAll(/([0-9a-f]{32}) {2}\/root\/data/g)].map((found) => found[1]);
  expect(sums).toHaveLength(2);
  expect(sums[0]).toBe(sums[1]);
});

test('four vCPUs all take interrupts and all do work', async () => {
  const vm = new VmmSession(await sharedLab(), [
    ...['--kernel', vmlinux, '--initramfs', initramfs, '--cmdline', 'console=ttyS0 quiet'],
    ...['--cpus', 'boot=4', '--memory', 'size=256M', ...serial],
  ]);
  await vm.expect('is up: 4 vCPU');
  await vm.type('for cpu in 0 1 2 3; do taskset -c $cpu sh -c "echo on $cpu: \\$((2 + $cpu))"; done');
  for (const line of ['on 0: 2', 'on 1: 3', 'on 2: 4', 'on 3: 5']) await vm.expect(line);
  await vm.type(
    'awk \'/LOC:/{print ($2 > 0 && $3 > 0 && $4 > 0 && $5 > 0) ? "all tick" : "one is dead"}\' /proc/interrupts',
  );
  // The first is the echo of what was typed.
  await vm.expect('all tick');
  await vm.expect('all tick');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});

test('a guest that reboots starts again in the same process', async () => {
  const vm = new VmmSession(await sharedLab(), [
    ...['--kernel', bzImage, '--initramfs', initramfs, '--cmdline', 'console=ttyS0 quiet'],
    ...['--memory', 'size=256M', ...serial],
  ]);
  await vm.type('reboot -f');
  await vm.expect('is up: 1 vCPU');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});

test('under Node.js it is the same', async () => {
  const vm = new VmmSession(
    await sharedLab(),
    [
      ...['--kernel', vmlinux, '--initramfs', initramfs, '--cmdline', 'console=ttyS0 quiet'],
      ...['--cpus', 'boot=2', '--memory', 'size=256M', ...serial],
    ],
    { runtime: 'node' },
  );
  await vm.type('echo $((6 * 7)) is $(uname -s)');
  await vm.expect('42 is Linux');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
  expect(vm.errors).toBe('');
});

test('SIGTERM ends a running guest in order', async () => {
  const lab = await sharedLab();
  const socket = '/run/ended.sock';
  const vm = new VmmSession(lab, [
    ...['--kernel', vmlinux, '--initramfs', initramfs, '--cmdline', 'console=ttyS0 quiet'],
    ...['--memory', 'size=256M', ...serial, '--api-socket', socket],
  ]);
  await vm.expect('is up: 1 vCPU');
  vm.signal('SIGTERM');
  expect(await vm.exitCode()).toBe(0);
  expect((await lab.run(['ls', socket])).code).not.toBe(0);
});
