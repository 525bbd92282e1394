/** Memory that a stock guest gets and gives back by virtio-mem while it works. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';

const MIB = 1 << 20;

async function actualSize(guest: LabGuest): Promise<number> {
  return ((await guest.api('GET', 'vm.info')).body as { memory_actual_size: number }).memory_actual_size;
}

/** Bytes of memory that the VMM's process has. */
async function residentBytes(guest: LabGuest): Promise<number> {
  const { body } = await guest.api('GET', 'vmm.ping');
  const { stdout } = await guest.lab.run(['cat', `/proc/${(body as { pid: number }).pid}/status`]);
  return Number(/VmRSS:\s+(\d+) kB/.exec(stdout)?.[1]) * 1024;
}

async function totalMemory(guest: LabGuest): Promise<number> {
  return Number((await guest.sh('grep MemTotal /proc/meminfo')).replace(/\D/g, '')) * 1024;
}

async function resize(guest: LabGuest, bytes: number): Promise<void> {
  const { status, body } = await guest.api('PUT', 'vm.resize', { desired_ram: bytes });
  expect([status, body]).toEqual([204, undefined]);
  await expect.poll(() => actualSize(guest), { timeout: 120_000, interval: 250 }).toBe(bytes);
}

/** Memory is in use as soon as it is there, and in a way in which it can go again. */
const CMDLINE = 'memhp_default_state=online_movable';

test('memory grows and shrinks under load, and what stays keeps its content', async () => {
  const guest = await LabGuest.boot({
    memory: '384M,hotplug_method=virtio-mem,hotplug_size=512M',
    cmdline: CMDLINE,
    cpus: 2,
  });
  const before = await totalMemory(guest);
  expect(await actualSize(guest)).toBe(384 * MIB);
  await resize(guest, 896 * MIB);
  expect((await totalMemory(guest)) - before).toBeGreaterThan(480 * MIB);
  // More than the guest had at its boot, and files that come and go all the time.
  await guest.sh(
    'mkdir -p /tmp/kept && mount -t tmpfs -o size=700m none /tmp/kept && ' +
      'dd if=/dev/urandom of=/tmp/kept/data bs=1M count=200 2>/dev/null && sha256sum /tmp/kept/data > /tmp/kept/sum',
  );
  const load = guest.start([
    'sh',
    '-c',
    'while [ ! -e /tmp/kept/stop ]; do dd if=/dev/zero of=/tmp/kept/load bs=1M count=64 2>/dev/null; rm -f /tmp/kept/load; done',
  ]);
  for (const size of [640, 768, 704, 896, 640]) {
    await resize(guest, size * MIB);
    await guest.sh('sha256sum -c /tmp/kept/sum');
  }
  await guest.sh('touch /tmp/kept/stop');
  await load.exited;
  await guest.sh('sha256sum -c /tmp/kept/sum && umount /tmp/kept');
  const resident = await residentBytes(guest);
  await resize(guest, 384 * MIB);
  expect(await totalMemory(guest)).toBe(before);
  expect(resident - (await residentBytes(guest))).toBeGreaterThan(100 * MIB);
  const { body } = await guest.api('GET', 'vm.counters');
  expect((body as Record<string, unknown>).mem0).toMatchObject({ plugged_bytes: 0, requested_bytes: 0 });
  expect(await guest.kernelMessages()).not.toContain('Call Trace');

  // The next machine begins with what was asked for last.
  await resize(guest, 512 * MIB);
  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  await expect.poll(() => actualSize(guest), { timeout: 120_000, interval: 250 }).toBe(512 * MIB);
  expect((await totalMemory(guest)) - before).toBeGreaterThan(100 * MIB);
  expect(await guest.powerOff()).toBe(0);
});
