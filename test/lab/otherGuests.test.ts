/** Guests that are not Debian's cloud kernel: each finds its CPUs, disk, network and power button, or says hello. */
import { expect, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import {
  IN_EMULATION,
  installer,
  memtest,
  OTHER_KERNELS,
  type OtherGuest,
  otherKernel,
} from '../../scripts/lab/otherGuests.mjs';
import { api, copyToLab, inLab, sharedLab, VmmSession } from './harness.ts';
import { namespace } from './hostNetwork.ts';

/** What the lab's emulated processor says of its extended state is too little for some kernels. */
const NO_XSAVE = 'noxsave';
const HOST = '192.168.79.1';
const GUEST = '192.168.79.2';
const DISK_MEGABYTES = 8;

/** Options for a guest's kernel and initramfs, which are copied into the lab for as long as it takes. */
async function payload(lab: Lab, guest: OtherGuest): Promise<string[]> {
  const options = ['--kernel', await copyToLab(lab, guest.kernel, '/tmp/other-kernel')];
  if (guest.initramfs) {
    options.push('--initramfs', await copyToLab(lab, guest.initramfs, '/tmp/other-initramfs'));
  }
  return options;
}

test.each(OTHER_KERNELS)('Linux: %s', async (name) => {
  const lab = await sharedLab();
  const options = await payload(lab, await otherKernel(name));
  const disk = '/tmp/other-disk.img';
  await inLab(lab, `dd if=/dev/urandom of=${disk} bs=1M count=${DISK_MEGABYTES}`);
  const sum = await inLab(lab, `md5sum <${disk}`);
  const socket = '/run/other.sock';
  const wrapper = await namespace(lab, `other-${name}`);
  const vm = new VmmSession(
    lab,
    [
      ...options,
      ...['--cmdline', `console=ttyS0 quiet ${NO_XSAVE} ${IN_EMULATION} run=look net=${GUEST}/24,${HOST}`],
      ...['--cpus', 'boot=2', '--memory', 'size=512M', '--serial', 'tty', '--console', 'off'],
      ...['--disk', `path=${disk},image_type=raw`, '--net', `tap=tap0,ip=${HOST},mask=255.255.255.0`],
      ...['--api-socket', socket],
    ],
    { wrapper },
  );
  await vm.expect('is up: 2 vCPU');
  await vm.expect('disk vda: serial tsvm');
  await vm.expect(`sum ${sum.trim()}`);
  await vm.expect('network: 1 packets');
  await vm.expect('waiting for the power button');
  expect(vm.text).toContain('network: 1 packets transmitted, 1 packets received');
  expect((await api(lab, socket, 'PUT', 'vm.power-button')).status).toBe(204);
  await vm.expect('power button pressed');
  expect(await vm.exitCode()).toBe(0);
  expect(vm.errors).toBe('');
});

test("Debian's installer", async () => {
  const lab = await sharedLab();
  const vm = new VmmSession(lab, [
    ...(await payload(lab, await installer())),
    ...['--cmdline', `console=ttyS0 quiet ${NO_XSAVE}`],
    ...['--memory', 'size=1G', '--serial', 'tty', '--console', 'off'],
  ]);
  await vm.expect('Starting system log daemon');
  vm.signal('SIGTERM');
  expect(await vm.exitCode()).toBe(0);
});

test('memtest86+', async () => {
  const lab = await sharedLab();
  const vm = new VmmSession(lab, [
    ...(await payload(lab, await memtest())),
    ...['--cmdline', 'console=ttyS0,115200'],
    ...['--memory', 'size=128M', '--serial', 'tty', '--console', 'off'],
  ]);
  await vm.expect('Memtest86+');
  vm.signal('SIGTERM');
  expect(await vm.exitCode()).toBe(0);
});
