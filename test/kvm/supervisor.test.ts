/** `tsvmmd` and the commands that talk to it, with payload guests. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Daemon } from './daemon.ts';
import { PAYLOAD, RUNTIMES, request, Tsvmm } from './support.ts';

test.each(RUNTIMES)('a VM from its definition to its end, by hand (%s)', async (runtime) => {
  const daemon = new Daemon(runtime);
  await daemon.start(['--pool', '1']);
  expect(await daemon.vm('one', 'run=power-button')).toBe('one\n');
  await expect.poll(() => daemon.tsvmm('logs', 'one')).toContain('waiting, event register');
  expect(await daemon.tsvmm('ps')).toMatch(
    /^NAME +STATE +UP +VCPUS +MEMORY +PID +KERNEL\none +running +\d+s +1 +128 MiB +\d+ +\//,
  );
  expect(await daemon.tsvmm('stats', 'one')).toMatch(/one +running +\d+\.\d\d s +\d+/);
  expect(JSON.parse(await daemon.tsvmm('inspect', 'one'))).toMatchObject({
    state: 'running',
    info: { state: 'Running' },
  });
  expect((await daemon.run('rm', 'one')).stderr).toMatch(/The VM one is running: stop it first/);
  expect(await daemon.tsvmm('stop', '-t', '100', 'one')).toBe('one\n');
  expect(await daemon.list()).toEqual({ one: 'stopped' });
  expect(await daemon.tsvmm('logs', '--process', 'one')).toContain('stop: pressed the ACPI power button');
  expect(await daemon.tsvmm('start', 'one')).toBe('one\n');
  expect(await daemon.tsvmm('rm', '-f', 'one')).toBe('one\n');
  expect(await daemon.list()).toEqual({});
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
  await expect.poll(() => daemon.processes()).toEqual([]);
  expect(fs.readdirSync(daemon.dir)).toEqual(['vms']);
});

test('without -d the log is shown until the guest ends', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const machine = ['--kernel', PAYLOAD, '--cmdline', 'run=hello,off', '--memory', 'size=128M'];
  const { code, stdout } = await daemon.run('run', '--rm', ...machine);
  expect(stdout).toContain('no such program');
  expect(code).toBe(0);
  expect(await daemon.list()).toEqual({});
});

test('what is wrong is said by name, and ends with a code', async () => {
  const daemon = new Daemon();
  expect(await daemon.run('ps')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/No supervisor serves .*tsvmmd/),
  });
  await daemon.start();
  expect(await daemon.run('start', 'gone')).toMatchObject({
    code: 1,
    stderr: 'tsvmm: There is no VM "gone"\n',
  });
  expect(await daemon.run('start')).toMatchObject({ code: 2, stderr: expect.stringMatching(/needs a name/) });
  expect(await daemon.run('run', '--name', 'x')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/needs --kernel/),
  });
  expect(await daemon.run('run', '--name', 'a/b', '--kernel', '/k')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/is no name of a VM/),
  });
  expect(await daemon.run('run', '-d', '--name', 'x', '--kernel', '/gone')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/The VM x could not start: .*\/gone/s),
  });
  expect(await daemon.list()).toEqual({ x: 'failed' });
  const second = new Tsvmm(['supervisor', '--dir', daemon.dir]);
  expect((await second.exit()).code).toBe(1);
  expect(second.stderr).toMatch(/tsvmmd.sock is in use/);
  expect(await daemon.list()).toEqual({ x: 'failed' });
});

test('a killed supervisor loses no VM: the next one finds them, also those that ended meanwhile', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await Promise.all([
    daemon.vm('stays', 'run=idle'),
    daemon.vm('ends', 'run=idle'),
    daemon.vm('again', 'run=idle', '--restart', 'always'),
  ]);
  await daemon.kill('SIGKILL');
  const pidOf = (name: string) =>
    Number(fs.readFileSync(path.join(daemon.dir, 'vms', name, 'vmhost.pid'), 'utf8'));
  const stays = pidOf('stays');
  for (const name of ['ends', 'again']) process.kill(pidOf(name), 'SIGKILL');
  await daemon.start();
  await expect.poll(() => daemon.list()).toEqual({ stays: 'running', ends: 'stopped', again: 'running' });
  expect(pidOf('stays')).toBe(stays);
  await daemon.tsvmm('stop', '--force', 'stays', 'again');
  expect(daemon.processes()).toEqual([]);
});

test('SIGTERM leaves VMs alone; with --stop-vms it ends them; those with autostart come back', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle', '--stop-timeout', '1');
  await daemon.vm('auto', 'run=idle', '--stop-timeout', '1', '--autostart');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(daemon.processes()).toHaveLength(2);
  await daemon.start(['--stop-vms', '--pool', '0']);
  expect(await daemon.list()).toEqual({ one: 'running', auto: 'running' });
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(daemon.processes()).toEqual([]);
  await daemon.start();
  await expect.poll(() => daemon.list()).toEqual({ one: 'stopped', auto: 'running' });
  await daemon.tsvmm('stop', '-t', '1', 'auto');
});

test('the REST API of each VM, events and metrics are below the one socket', async () => {
  const daemon = new Daemon();
  await daemon.start();
  await daemon.vm('one', 'run=idle');
  const socket = path.join(daemon.dir, 'tsvmmd.sock');
  const events = new Tsvmm(['events', '--dir', daemon.dir]);
  const call = (method: string, endpoint: string) => request(socket, method, `../../v1/${endpoint}`);
  // The command has to be connected before something happens.
  await expect
    .poll(async () => {
      await call('PUT', 'vms/one/api/api/v1/vm.pause');
      await call('PUT', 'vms/one/api/api/v1/vm.resume');
      return events.stdout;
    })
    .toContain('one vm resumed');
  expect((await call('GET', 'vms/one/api/api/v1/vm.info')).json.state).toBe('Running');
  const metrics = await new Promise<string>((resolve) => {
    const curl = spawn('curl', ['-s', '--unix-socket', socket, 'http://x/metrics'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let text = '';
    curl.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    curl.on('close', () => resolve(text));
  });
  expect(metrics).toMatch(/^tsvmm_vm_state\{vm="one",state="running"\} 1$/m);
  await daemon.tsvmm('stop', '--force', 'one');
  expect((await call('GET', 'vms/one/api/api/v1/vm.info')).status).toBe(409);
  expect((await call('GET', 'vms/none')).status).toBe(404);
});

test('VMs are defined, started, stopped and removed while the supervisor is killed again and again', async () => {
  const daemon = new Daemon();
  await daemon.start(['--pool', '2']);
  const acknowledged = new Set<string>();
  for (let round = 0; round < 12; round++) {
    const name = `v${round}`;
    const killed = round % 3 === 2;
    const work = daemon.run(
      'run',
      '-d',
      '--name',
      name,
      '--kernel',
      PAYLOAD,
      '--cmdline',
      'run=idle',
      '--memory',
      'size=128M',
    );
    if (killed) {
      await new Promise((resolve) => setTimeout(resolve, 20 * round));
      await daemon.kill('SIGKILL');
    }
    if ((await work).code === 0) acknowledged.add(name);
    if (killed) await daemon.start(['--pool', '2']);
    if (round % 2 === 1 && acknowledged.delete(`v${round - 1}`))
      await daemon.tsvmm('rm', '-f', `v${round - 1}`);
  }
  const states = await daemon.list();
  for (const name of acknowledged) expect(states[name], name).toBe('running');
  await daemon.tsvmm('rm', '-f', ...Object.keys(states));
  expect(await daemon.list()).toEqual({});
  await daemon.kill('SIGTERM');
  await expect.poll(() => daemon.processes()).toEqual([]);
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
});
