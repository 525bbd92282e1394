/** vCPUs that come to a stock guest while it runs, and leave it. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';

/** The lab emulates one processor, on which all of the guest's take turns. */
const WAIT_MS = 600_000;
const TIMEOUT = { timeoutSeconds: WAIT_MS / 1000 };

/** CPUs of the guest that work, as the kernel lists them. */
const online = (guest: LabGuest) => guest.sh('cat /sys/devices/system/cpu/online');

/** Adds vCPUs, has the guest start them as udev does elsewhere, and keeps each of them busy. */
async function grow(guest: LabGuest, from: number, to: number): Promise<void> {
  const done = guest.api('PUT', 'vm.resize', { desired_vcpus: to, wait_ms: WAIT_MS });
  const started = guest.sh(
    `for cpu in $(seq ${from} ${to - 1}); do
       folder=/sys/devices/system/cpu/cpu$cpu
       until [ -e $folder/online ]; do usleep 100000; done
       echo 1 > $folder/online || exit 1
       (exec taskset -c $cpu sh -c 'while :; do :; done') > /dev/null 2>&1 &
     done`,
    TIMEOUT,
  );
  expect((await done).status).toBe(204);
  await started;
  expect(await online(guest)).toBe(`0-${to - 1}\n`);
}

async function shrink(guest: LabGuest, to: number): Promise<void> {
  const { status, body } = await guest.api('PUT', 'vm.resize', { desired_vcpus: to, wait_ms: WAIT_MS });
  expect([status, body]).toEqual([204, undefined]);
  expect(await online(guest)).toBe(to === 1 ? '0\n' : `0-${to - 1}\n`);
}

test('vCPUs 1 to 8 to 1 with work on each, and over a reboot', async () => {
  const guest = await LabGuest.boot({ cpus: 1, maxCpus: 8 });
  expect(await guest.sh('cat /sys/devices/system/cpu/possible')).toBe('0-7\n');
  expect(await online(guest)).toBe('0\n');
  await grow(guest, 1, 8);
  // The interrupts of each: they do work.
  const ticks = await guest.sh('grep LOC: /proc/interrupts');
  expect(
    ticks
      .trim()
      .split(/\s+/)
      .slice(1, 9)
      .map(Number)
      .every((count) => count > 0),
  ).toBe(true);
  await shrink(guest, 1);
  await guest.sh('pkill -f "while :" || true');
  await grow(guest, 1, 3);
  const { body } = await guest.api('GET', 'vm.info');
  expect(body).toMatchObject({ config: { cpus: { boot_vcpus: 3, max_vcpus: 8 } } });
  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect(await online(guest)).toBe('0-2\n');
  await shrink(guest, 2);
  await grow(guest, 2, 4);
  expect(await guest.sh('dmesg | grep -E "BUG:|Oops|eject incomplete" || true')).toBe('');
  expect(await guest.powerOff()).toBe(0);
}, 2_400_000);
