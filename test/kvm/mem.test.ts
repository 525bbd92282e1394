/** Memory that a guest plugs in and out by virtio-mem, whether it keeps to the rules or not. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { expectAllOk, runGuest, settles, sleep, startGuest, Tsvmm, temporaryFolder } from './support.ts';
import { Terminal } from './terminal.ts';

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

test('who resizes may wait for the guest, and sees how far it is', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({
    cmdline: 'run=mem-follow most=64',
    memory: '128M,hotplug_method=virtio-mem,hotplug_size=512M',
    args: ['--api-socket', socket],
  });
  await vmm.waitFor('mem follows');
  const resize = (mib: number, wait_ms: number) =>
    vmm.api('PUT', 'vm.resize', { desired_ram: mib * MIB, wait_ms });
  const info = async () => (await vmm.api('GET', 'vm.info')).json;
  for (const mib of [256, 160, 192]) {
    expect((await resize(mib, 120_000)).status).toBe(204);
    expect(await info()).toMatchObject({ memory_actual_size: mib * MIB, memory_requested_size: mib * MIB });
  }
  // It never has more than 128 MiB by the device.
  const late = await resize(320, 300);
  expect([late.status, late.json.at(-1)]).toEqual([
    500,
    expect.stringMatching(
      /^The guest has not brought its memory to 335544320 bytes \(\d+ so far\) within 300 ms$/,
    ),
  ]);
  await settles(async () => {
    expect(await info()).toMatchObject({ memory_actual_size: 256 * MIB, memory_requested_size: 320 * MIB });
  });

  const ctl = async (...words: string[]) => {
    const client = new Tsvmm(['ctl', '--api-socket', socket, ...words]);
    const { code } = await client.exit();
    return { code, stdout: client.stdout, stderr: client.stderr };
  };
  expect((await ctl('info')).stdout).toContain('Memory        256 MiB (asked to have 320 MiB)');
  expect(await ctl('resize', '--memory', '320M', '--wait', '100')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('within 100 ms'),
  });
  const terminal = new Terminal([
    'ctl',
    '--api-socket',
    socket,
    'resize',
    '--memory',
    '320M',
    '--wait',
    '600000',
  ]);
  await terminal.waitFor(/Resizing, .* s: memory 256 MiB, asked to have 320 MiB/);
  expect(await ctl('resize', '--memory', '224M', '--wait', '120000')).toMatchObject({ code: 0, stderr: '' });
  await terminal.waitFor(/The VM is resized/);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  await vmm.exit();
});
