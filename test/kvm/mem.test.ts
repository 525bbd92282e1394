/** Memory that a guest plugs in and out by virtio-mem, whether it keeps to the rules or not. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { expectAllOk, runGuest, sleep, startGuest, temporaryFolder } from './support.ts';

const MIB = 1 << 20;
const GROWING = 'hotplug_method=virtio-mem,hotplug_size=256M,hotplugged_size=64M';

/** KiB of memory that only exist for this process; pages that are mapped many times count once. */
function proportionalKiB(pid: number): number {
  const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss: +(\d+) kB/m.exec(rollup)?.[1]);
}

test.each(['', ',shared=on', ',prefault=on', ',reserve=on,mergeable=on', ',shared=on,prefault=on'])(
  'blocks come and go%s',
  async (backing) => {
    const output = await runGuest({ cmdline: 'run=mem,serial', memory: `128M,${GROWING}${backing}` });
    expect(output).toContain(`size ${256 * MIB} requested ${64 * MIB}`);
  },
);

test('memory that was not given to a guest is none that it can have', async () => {
  const vmm = startGuest({
    cmdline: 'run=mem then=idle',
    memory: `128M,${GROWING}`,
    args: ['--api-socket', path.join(temporaryFolder(), 'api')],
  });
  await vmm.waitFor('done ');
  // It wrote to every page of the 256 MiB, and to the 64 MiB that it had for a while.
  expect(proportionalKiB(vmm.pid)).toBeLessThan(64 * 1024);
  expect((await vmm.api('GET', 'vm.info')).json.memory_actual_size).toBe(128 * MIB);
  expect((await vmm.api('GET', 'vm.counters')).json.mem0).toMatchObject({
    requested_bytes: 64 * MIB,
    plugged_bytes: 0,
    plugged_in_bytes: 64 * MIB,
    plugged_out_bytes: 64 * MIB,
    busy_requests: 0,
  });
  const resize = (bytes: number) => vmm.api('PUT', 'vm.resize', { desired_ram: bytes });
  expect((await resize(256 * MIB)).status).toBe(204);
  expect((await vmm.api('GET', 'vm.counters')).json.mem0.requested_bytes).toBe(128 * MIB);
  expect((await resize(256 * MIB)).status).toBe(204);
  for (const wrong of [64 * MIB, 129 * MIB, 512 * MIB]) {
    expect((await resize(wrong)).status, String(wrong)).toBe(500);
  }
  expect((await vmm.api('GET', 'vm.info')).json.config.memory.hotplugged_size).toBe(128 * MIB);
  expect((await vmm.api('PUT', 'vm.remove-device', { id: 'mem0' })).status).toBe(500);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  await vmm.exit();
});

test('bad buffers do no harm', async () => {
  await runGuest({ cmdline: 'run=hostile-mem,mem', memory: `128M,${GROWING}`, hostile: true });
});

test('four vCPUs against the device while the host resizes', async () => {
  const vmm = startGuest({
    cmdline: 'run=hostile-mem-smp,serial time=6000000',
    memory: `128M,${GROWING}`,
    args: ['--cpus', 'boot=4', '--api-socket', path.join(temporaryFolder(), 'api')],
  });
  await vmm.waitFor('ok mem-others');
  const most = 128 * 1024;
  for (let round = 0; round < 30; round++) {
    const size = 128 + 2 * ((round * 7) % 33);
    const { status } = await vmm.api('PUT', 'vm.resize', { desired_ram: size * MIB });
    expect([204, 500]).toContain(status);
    expect(proportionalKiB(vmm.pid)).toBeLessThan(most);
    await sleep(20);
  }
  await vmm.exit();
  expectAllOk(vmm.stdout);
});
