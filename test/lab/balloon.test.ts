/** The balloon with a stock guest: what the guest gives up is memory that the VMM's process no longer has. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';

const MIB = 1 << 20;

/** Bytes of memory that the VMM's process has. */
async function residentBytes(guest: LabGuest): Promise<number> {
  const { body } = await guest.api('GET', 'vmm.ping');
  const { stdout } = await guest.lab.run(['cat', `/proc/${(body as { pid: number }).pid}/status`]);
  return Number(/VmRSS:\s+(\d+) kB/.exec(stdout)?.[1]) * 1024;
}

async function actualSize(guest: LabGuest): Promise<number> {
  return ((await guest.api('GET', 'vm.info')).body as { memory_actual_size: number }).memory_actual_size;
}

async function counters(guest: LabGuest): Promise<Record<string, number>> {
  const { body } = await guest.api('GET', 'vm.counters');
  return (body as Record<string, Record<string, number>>).__balloon ?? {};
}

async function until(guest: LabGuest, what: string, condition: () => Promise<boolean>): Promise<void> {
  const end = guest.lab.now() + 120_000;
  while (!(await condition())) {
    if (guest.lab.now() > end) throw new Error(`120 s passed without ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function resize(guest: LabGuest, size: number): Promise<void> {
  expect((await guest.api('PUT', 'vm.resize', { desired_balloon: size })).status).toBe(204);
}

const FILL = 'dd if=/dev/zero of=/tmp/filler bs=1M count=160 2>/dev/null';

test('inflates, deflates and tells of the guest; what it takes leaves the process', async () => {
  const guest = await LabGuest.boot({ args: ['--balloon', 'size=0'] });
  const total = Number((await guest.sh('grep MemTotal /proc/meminfo')).replace(/\D/g, '')) * 1024;
  // Pages that have been touched and are free again stay with the process.
  await guest.sh(`${FILL}; rm /tmp/filler`);
  const before = await residentBytes(guest);
  await resize(guest, 256 * MIB);
  await until(guest, '256 MiB in the balloon', async () => (await actualSize(guest)) === 256 * MIB);
  expect(before - (await residentBytes(guest))).toBeGreaterThan(100 * MIB);
  const smaller = Number((await guest.sh('grep MemTotal /proc/meminfo')).replace(/\D/g, '')) * 1024;
  expect(total - smaller).toBe(256 * MIB);
  await until(guest, 'statistics', async () => 'available_bytes' in (await counters(guest)));
  const seen = await counters(guest);
  expect(seen).toMatchObject({ target_bytes: 256 * MIB, actual_bytes: 256 * MIB });
  expect(seen.inflated_bytes).toBeGreaterThanOrEqual(256 * MIB);
  // The wish for newer values goes out with a question, so the next answer has them.
  await until(guest, 'new statistics', async () => ((await counters(guest)).total_bytes ?? total) < total);
  await resize(guest, 0);
  await until(guest, 'an empty balloon', async () => (await actualSize(guest)) === 512 * MIB);
  await guest.sh(`${FILL} && cmp -n 1000 /tmp/filler /tmp/filler`);
  expect((await counters(guest)).deflated_bytes).toBeGreaterThanOrEqual(256 * MIB);
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);
});

test('free pages are reported and leave the process by themselves', async () => {
  const guest = await LabGuest.boot({ args: ['--balloon', 'size=0,free_page_reporting=on'] });
  await guest.sh(FILL);
  const before = await residentBytes(guest);
  await guest.sh('rm /tmp/filler');
  await until(guest, 'memory to leave', async () => before - (await residentBytes(guest)) > 120 * MIB);
  expect((await counters(guest)).reported_bytes).toBeGreaterThan(120 * MIB);
  await guest.sh(`${FILL}; rm /tmp/filler`);
  expect(await guest.powerOff()).toBe(0);
});

test('shared memory leaves its file', async () => {
  const guest = await LabGuest.boot({
    memory: '512M,shared=on',
    args: ['--balloon', 'size=0,free_page_reporting=on'],
  });
  await guest.sh(FILL);
  const before = await residentBytes(guest);
  await guest.sh('rm /tmp/filler');
  await until(guest, 'memory to leave', async () => before - (await residentBytes(guest)) > 120 * MIB);
  expect(await guest.powerOff()).toBe(0);
});

test('a guest that runs out of memory takes it back', async () => {
  const guest = await LabGuest.boot({ args: ['--balloon', 'size=320M,deflate_on_oom=on'] });
  await until(guest, '320 MiB in the balloon', async () => (await actualSize(guest)) === 192 * MIB);
  // Files in memory cannot be dropped or written back.
  await guest.sh('dd if=/dev/zero of=/tmp/filler bs=1M count=160');
  expect(await actualSize(guest)).toBeGreaterThan(192 * MIB);
  expect(await guest.powerOff()).toBe(0);
});
