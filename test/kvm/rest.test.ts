/** The REST socket with a real VM behind it: the lifecycle, its errors, and what the guest notices of it. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  diskImage,
  expectAllOk,
  PAYLOAD,
  RUNTIMES,
  type Runtime,
  sleep,
  startGuest,
  Tsvmm,
  temporaryFolder,
  until,
} from './support.ts';

interface Setup {
  readonly vmm: Tsvmm;
  readonly log: string;
  /** The serial log so far. */
  output(): string;
  config(cmdline: string, more?: object): object;
}

/** A VMM with nothing in it but its socket. */
async function idleVmm(runtime: Runtime = 'standalone'): Promise<Setup> {
  const folder = temporaryFolder();
  const log = path.join(folder, 'serial.log');
  const vmm = new Tsvmm(['--api-socket', `path=${path.join(folder, 'api')}`], { runtime });
  await vmm.ready();
  return {
    vmm,
    log,
    output: () => (fs.existsSync(log) ? fs.readFileSync(log, 'latin1') : ''),
    config: (cmdline, more = {}) => ({
      payload: { kernel: PAYLOAD, cmdline },
      memory: { size: 128 << 20 },
      serial: { mode: 'File', file: log },
      console: { mode: 'Off' },
      ...more,
    }),
  };
}

async function expectStatus(vmm: Tsvmm, endpoint: string, status: number, body?: unknown): Promise<void> {
  const answer = await vmm.api('PUT', endpoint, body);
  expect(`${endpoint} ${answer.status} ${answer.text}`).toBe(
    `${endpoint} ${status} ${status < 400 ? '' : answer.text}`,
  );
}

const state = async (vmm: Tsvmm): Promise<string> => (await vmm.api('GET', 'vm.info')).json.state;

describe.each(RUNTIMES)('%s', (runtime) => {
  test('create, boot, pause, resume, shutdown, boot again, delete', async () => {
    const { vmm, output, config } = await idleVmm(runtime);
    await expectStatus(vmm, 'vm.create', 204, config('run=spin every=5000'));
    expect(await state(vmm)).toBe('Created');
    await expectStatus(vmm, 'vm.boot', 204);
    expect(await state(vmm)).toBe('Running');
    await vmm.waitFor('spinning', output);
    await vmm.waitFor('.....', output);

    await expectStatus(vmm, 'vm.pause', 204);
    expect(await state(vmm)).toBe('Paused');
    const paused = output();
    await sleep(200);
    expect(output()).toBe(paused);
    await expectStatus(vmm, 'vm.resume', 204);
    await vmm.waitFor(`${paused}...`, output);

    await expectStatus(vmm, 'vm.shutdown', 204);
    expect(await state(vmm)).toBe('Created');
    await expectStatus(vmm, 'vm.boot', 204);
    await vmm.waitFor('spinning', output);
    await expectStatus(vmm, 'vm.delete', 204);
    expect((await vmm.api('GET', 'vm.info')).status).toBe(404);
    await expectStatus(vmm, 'vm.create', 204, config('run=serial'));
    await expectStatus(vmm, 'vmm.shutdown', 200);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('the guest powers off: the process ends', async () => {
    const { vmm, output, config } = await idleVmm(runtime);
    await expectStatus(vmm, 'vm.create', 204, config('run=serial'));
    await expectStatus(vmm, 'vm.boot', 204);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expectAllOk(output());
  });

  test('reboot', async () => {
    const { vmm, log, output, config } = await idleVmm(runtime);
    await expectStatus(vmm, 'vm.create', 204, config('run=spin every=10000'));
    await expectStatus(vmm, 'vm.boot', 204);
    await vmm.waitFor('spinning', output);
    await vmm.waitFor('...', output);
    // What was there before says why the guest restarted: it stays.
    fs.appendFileSync(log, 'before'.repeat(1000));
    await expectStatus(vmm, 'vm.reboot', 204);
    await vmm.waitFor(/^spinning\r?\n\.*(before){1000}[\s\S]*spinning\r?\n\.*$/, output);
    await expectStatus(vmm, 'vm.pause', 204);
    await expectStatus(vmm, 'vm.reboot', 204);
    expect(await state(vmm)).toBe('Running');
    await vmm.waitFor('spinning', output);
    await expectStatus(vmm, 'vmm.shutdown', 200);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('power button and NMI reach the guest', async () => {
    const { vmm, output, config } = await idleVmm(runtime);
    await expectStatus(vmm, 'vm.create', 204, config('run=nmi,power-button'));
    await expectStatus(vmm, 'vm.boot', 204);
    await vmm.waitFor('waiting\n', output);
    await expectStatus(vmm, 'vm.nmi', 204);
    await vmm.waitFor('waiting, event register', output);
    await sleep(20);
    await expectStatus(vmm, 'vm.power-button', 204);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    expectAllOk(output());
  });
});

test('counters count what the disk did', async () => {
  const { vmm, output, config } = await idleVmm();
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const disks = [{ path: disk, image_type: 'Raw' }];
  await expectStatus(vmm, 'vm.create', 204, config('run=blk-rw then=idle', { disks }));
  await expectStatus(vmm, 'vm.boot', 204);
  await vmm.waitFor('done 3', output);
  const { status, json } = await vmm.api('GET', 'vm.counters');
  expect(status).toBe(200);
  expect(json._disk0.write_bytes).toBe(1 << 20);
  expect(json._disk0.read_bytes).toBe(1 << 20);
  expect(json._disk0.write_ops).toBeGreaterThan(0);
  await expectStatus(vmm, 'vmm.shutdown', 200);
  await vmm.exit();
});

test('info shows the machine', async () => {
  const { vmm, config } = await idleVmm();
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const disks = [{ path: disk, image_type: 'Raw', serial: 'abc' }];
  await expectStatus(vmm, 'vm.create', 204, config('run=idle', { disks, console: { mode: 'Null' } }));
  const before = (await vmm.api('GET', 'vm.info')).json;
  expect(before.device_tree).toBeUndefined();
  expect(before.config.memory.size).toBe(128 << 20);
  await expectStatus(vmm, 'vm.boot', 204);
  const info = (await vmm.api('GET', 'vm.info')).json;
  expect(info.memory_actual_size).toBe(128 << 20);
  expect(info.config.disks[0].id).toBe('_disk0');
  expect(info.device_tree['_virtio-pci-_disk0'].pci_bdf).toBe('0000:00:02.0');
  expect(info.device_tree._disk0.parent).toBe('_virtio-pci-_disk0');
  await expectStatus(vmm, 'vmm.shutdown', 200);
  await vmm.exit();
});

test('commands in the wrong state are refused and change nothing', async () => {
  const { vmm, config, output } = await idleVmm();
  for (const endpoint of ['vm.boot', 'vm.reboot']) await expectStatus(vmm, endpoint, 404);
  for (const endpoint of ['vm.pause', 'vm.resume', 'vm.shutdown', 'vm.nmi', 'vm.power-button']) {
    await expectStatus(vmm, endpoint, 500);
  }
  await expectStatus(vmm, 'vm.delete', 204);
  await expectStatus(vmm, 'vm.create', 204, config('run=idle'));
  await expectStatus(vmm, 'vm.create', 500, config('run=idle'));
  await expectStatus(vmm, 'vm.boot', 204);
  await expectStatus(vmm, 'vm.boot', 500);
  await expectStatus(vmm, 'vm.resume', 500);
  await expectStatus(vmm, 'vm.pause', 204);
  const again = await vmm.api('PUT', 'vm.pause');
  expect(again.status).toBe(500);
  expect(again.json.at(-1)).toBe('Invalid transition: InvalidStateTransition(Paused, Paused)');
  await expectStatus(vmm, 'vm.resume', 204);
  await vmm.waitFor('idle', output);
  await expectStatus(vmm, 'vmm.shutdown', 200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('a VM that cannot boot leaves a VMM that works', async () => {
  const { vmm, config, output } = await idleVmm();
  const missing = { payload: { kernel: '/nonexistent/kernel', cmdline: '' } };
  await expectStatus(vmm, 'vm.create', 204, config('', missing));
  const refused = await vmm.api('PUT', 'vm.boot');
  expect(refused.status).toBe(500);
  expect(refused.json.slice(0, 2)).toEqual(['Error from API', 'The VM could not boot']);
  expect(refused.text).toContain('/nonexistent/kernel');
  await expectStatus(vmm, 'vm.delete', 204);
  await expectStatus(vmm, 'vm.create', 204, config('run=serial'));
  await expectStatus(vmm, 'vm.boot', 204);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expectAllOk(output());
});

test('lifecycle commands race one another and the guest', async () => {
  const { vmm, config } = await idleVmm();
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const disks = [{ path: disk, image_type: 'Raw' }];
  // The guest resets all the time, by itself.
  const resetting = config('run=reset cause=i8042 boots=100000000', { disks });
  const commands = ['vm.boot', 'vm.pause', 'vm.resume', 'vm.reboot', 'vm.nmi', 'vm.shutdown', 'vm.delete'];
  for (let round = 0; round < 30; round++) {
    await vmm.api('PUT', 'vm.create', resetting);
    const chosen = commands.map((_, i) => commands[(i * 5 + round * 3) % commands.length] ?? 'vm.boot');
    const answers = await Promise.all(['vm.boot', ...chosen].map((endpoint) => vmm.api('PUT', endpoint)));
    for (const answer of answers) expect([204, 404, 500]).toContain(answer.status);
  }
  await expectStatus(vmm, 'vm.delete', 204);
  await expectStatus(vmm, 'vm.create', 204, config('run=serial'));
  await expectStatus(vmm, 'vm.boot', 204);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  expect(vmm.stderr).toBe('');
});

test('counters answer whatever is going on', async () => {
  const { vmm, config } = await idleVmm();
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const disks = [{ path: disk, image_type: 'Raw' }];
  await expectStatus(vmm, 'vm.create', 204, config('run=blk-depth requests=100000000', { disks }));
  await expectStatus(vmm, 'vm.boot', 204);
  for (let round = 0; round < 10; round++) {
    for (const command of ['vm.pause', 'vm.resume', 'vm.reboot']) {
      const changed = expectStatus(vmm, command, 204);
      const answers = await Promise.all([1, 2].map(() => vmm.api('GET', 'vm.counters')));
      for (const { status, text } of answers) {
        expect(`${command} ${status} ${text}`).toContain(`${command} 200 {"_disk0":{"`);
      }
      await changed;
    }
  }
  await expectStatus(vmm, 'vmm.shutdown', 200);
  await vmm.exit();
});

test('pausing and resuming a disk at work, many times', async () => {
  const { vmm, config, output } = await idleVmm();
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const disks = [{ path: disk, image_type: 'Raw' }];
  await expectStatus(vmm, 'vm.create', 204, config('run=blk-depth requests=50000 then=idle', { disks }));
  await expectStatus(vmm, 'vm.boot', 204);
  for (let i = 0; i < 50; i++) {
    await expectStatus(vmm, 'vm.pause', 204);
    await expectStatus(vmm, 'vm.resume', 204);
  }
  await vmm.waitFor('done 4', output);
  expectAllOk(output());
  await expectStatus(vmm, 'vmm.shutdown', 200);
  await vmm.exit();
});

test('the clock of a paused guest goes on as the wall clock does', async () => {
  const { vmm, config, output } = await idleVmm();
  await expectStatus(vmm, 'vm.create', 204, config('run=tick every=20000'));
  await expectStatus(vmm, 'vm.boot', 204);
  await vmm.waitFor('...', output);
  await expectStatus(vmm, 'vm.pause', 204);
  await sleep(300);
  await expectStatus(vmm, 'vm.resume', 204);
  const before = output();
  await until(
    () => output().length > before.length + 3,
    () => 'the timer no longer wakes the guest',
  );
  await expectStatus(vmm, 'vmm.shutdown', 200);
  await vmm.exit();
});

test('a VM from the command line answers, too', async () => {
  const socket = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({ cmdline: 'run=idle', args: ['--api-socket', socket] });
  await vmm.waitFor('idle');
  await vmm.ready();
  expect((await vmm.api('GET', 'vmm.ping')).json.pid).toBe(vmm.pid);
  expect(await state(vmm)).toBe('Running');
  await expectStatus(vmm, 'vm.delete', 204);
  await expectStatus(vmm, 'vmm.shutdown', 200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
