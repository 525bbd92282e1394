/** What the REST socket does to a running stock guest. */
import { expect, test } from 'vitest';
import { api, guestFiles, sharedLab, VmmSession } from './harness.ts';

const { vmlinux, initramfs } = guestFiles;

/** A guest with a REST socket. */
async function start(name: string, cmdline: string) {
  const lab = await sharedLab();
  const socket = `/run/${name}.sock`;
  const vm = new VmmSession(lab, [
    ...['--kernel', vmlinux, '--initramfs', initramfs, '--cmdline', `console=ttyS0 quiet ${cmdline}`],
    ...['--cpus', 'boot=2', '--memory', 'size=256M', '--serial', 'tty', '--console', 'off'],
    ...['--api-socket', socket],
  ]);
  return { vm, ask: (method: 'GET' | 'PUT', endpoint: string) => api(lab, socket, method, endpoint) };
}

test('pause stops the guest and resume lets it go on', async () => {
  const { vm, ask } = await start('pause', '');
  await vm.type('while usleep 50000; do echo tick; done');
  await vm.expect('tick\r\ntick');
  expect((await ask('PUT', 'vm.pause')).status).toBe(204);
  expect((await ask('GET', 'vm.info')).body).toMatchObject({ state: 'Paused' });
  const before = vm.text;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(vm.text).toBe(before);
  expect((await ask('PUT', 'vm.pause')).status).toBe(500);
  expect((await ask('PUT', 'vm.resume')).status).toBe(204);
  await expect.poll(() => vm.text.length, { timeout: 20_000 }).toBeGreaterThan(before.length);
  expect((await ask('GET', 'vm.info')).body).toMatchObject({ state: 'Running' });
  expect((await ask('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vm.exitCode()).toBe(0);
});

test('the power button reaches the guest', async () => {
  const { vm, ask } = await start('button', 'run=button');
  await vm.expect('waiting for the power button');
  expect((await ask('PUT', 'vm.power-button')).status).toBe(204);
  await vm.expect('power button pressed');
  expect(await vm.exitCode()).toBe(0);
});

test('a guest that suspends wakes by the power button, and by the alarm of its clock', async () => {
  const { vm, ask } = await start('suspend', '');
  const sleeps = 'cat /sys/power/suspend_stats/success';
  await vm.type('dmesg -n 7');
  await vm.type(`echo freeze > /sys/power/state; echo woke after $(${sleeps}) sleep`);
  await vm.expect('Suspending console');
  await new Promise((resolve) => setTimeout(resolve, 2000));
  expect(vm.text).not.toContain('woke after 1');
  expect((await ask('PUT', 'vm.power-button')).status).toBe(204);
  await vm.expect('woke after 1 sleep');
  // What rtcwake does, which busybox does not have here.
  await vm.type('echo +3 > /sys/class/rtc/rtc0/wakealarm');
  await vm.type(`echo freeze > /sys/power/state; echo woke after $(${sleeps}) sleeps`);
  await vm.expect('woke after 2 sleeps');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});

test('vm.reboot restarts, vm.shutdown keeps the VMM and vm.boot starts again', async () => {
  const { vm, ask } = await start('cycle', '');
  await vm.expect('is up: 2 vCPU');
  expect((await ask('PUT', 'vm.reboot')).status).toBe(204);
  await vm.expect('is up: 2 vCPU');
  expect((await ask('PUT', 'vm.shutdown')).status).toBe(204);
  expect((await ask('GET', 'vm.info')).body).toMatchObject({ state: 'Created' });
  expect((await ask('PUT', 'vm.boot')).status).toBe(204);
  await vm.expect('is up: 2 vCPU');
  await vm.type('poweroff -f');
  expect(await vm.exitCode()).toBe(0);
});
