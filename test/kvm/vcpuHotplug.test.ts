/**
 * vCPUs that come to a machine that runs, and leave it, on real KVM: with a guest that does as it is asked, and others.
 */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { expectAllOk, nativeThreads, settles, startGuest, type Tsvmm, temporaryFolder } from './support.ts';

const WAIT_MS = 120_000;

interface Guest {
  readonly vmm: Tsvmm;
  /** @returns the status */
  readonly resize: (count: number, waitMs?: number | null) => Promise<number>;
  /** The vCPUs that the metrics know. */
  readonly counted: () => Promise<string[]>;
}

function start(program: string, cpus: string): Guest {
  const socketPath = path.join(temporaryFolder(), 'api');
  const vmm = startGuest({ cmdline: `run=${program}`, args: ['--cpus', cpus, '--api-socket', socketPath] });
  return {
    vmm,
    resize: async (count, wait_ms = WAIT_MS) =>
      (await vmm.api('PUT', 'vm.resize', { desired_vcpus: count, wait_ms })).status,
    counted: async () =>
      [...(await metrics(socketPath)).matchAll(/^tsvmm_vcpu_run_seconds_total\{vcpu="(\d+)"\}/gm)].map(
        ([, vcpu]) => String(vcpu),
      ),
  };
}

function metrics(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    http
      .get({ socketPath, path: '/metrics', agent: false }, (response) => text(response).then(resolve, reject))
      .on('error', reject);
  });
}

const vcpuThreads = (vmm: Tsvmm) => nativeThreads(vmm.pid).filter((name) => name.startsWith('vcpu'));

test('vCPUs come, work, leave and come again, also over a reboot', async () => {
  const { vmm, resize, counted } = start('vcpus', 'boot=1,max=4,affinity=[3@[0]]');
  await vmm.waitFor('vcpus ready');
  expect(vcpuThreads(vmm)).toEqual(['vcpu0']);
  expect(await resize(4)).toBe(204);
  for (const vcpu of [1, 2, 3]) await vmm.waitFor(`vcpu ${vcpu} works`);
  expect((await vmm.api('GET', 'vm.info')).json.config.cpus).toMatchObject({ boot_vcpus: 4, max_vcpus: 4 });
  expect(await counted()).toEqual(['0', '1', '2', '3']);
  const tasks = `/proc/${vmm.pid}/task`;
  const late = fs
    .readdirSync(tasks)
    .find((id) => fs.readFileSync(`${tasks}/${id}/comm`, 'utf8') === 'vcpu3\n');
  expect(fs.readFileSync(`${tasks}/${late}/status`, 'utf8')).toMatch(/Cpus_allowed_list:\s+0\n/);

  for (let round = 1; round <= 3; round++) {
    expect(await resize(2)).toBe(204);
    expect(await counted()).toEqual(['0', '1']);
    await vmm.waitFor(new RegExp(`(vcpu 3 left[\\s\\S]*){${round}}`));
    expect(await resize(4)).toBe(204);
    await vmm.waitFor(new RegExp(`(vcpu 3 works[\\s\\S]*){${round + 1}}`));
  }
  // Those that had left are those that came again.
  expect(vcpuThreads(vmm)).toEqual(['vcpu0', 'vcpu1', 'vcpu2', 'vcpu3']);

  expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
  expect(await resize(3, null)).toBe(204);
  expect(await resize(3, null)).toBe(429);
  expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
  await settles(async () => expect(await counted()).toEqual(['0', '1', '2']));
  expect(vmm.stdout).not.toContain('does nothing');
  expect(vmm.stdout).not.toContain('still there');

  const before = vmm.stdout.length;
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  await vmm.waitFor('vcpus ready', () => vmm.stdout.slice(before));
  expect(vmm.stdout.slice(before)).toMatch(/vcpu 1 works[\s\S]*vcpu 2 works/);
  expect(vcpuThreads(vmm)).toEqual(['vcpu0', 'vcpu1', 'vcpu2']);
  expect(await resize(1)).toBe(204);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('a guest that gives none up keeps them, and the next change waits', async () => {
  const { vmm, resize, counted } = start('vcpus keep=1', 'boot=1,max=3');
  await vmm.waitFor('vcpus ready');
  expect(await resize(3)).toBe(204);
  const late = await vmm.api('PUT', 'vm.resize', { desired_vcpus: 1, wait_ms: 300 });
  expect([late.status, late.text]).toEqual([
    500,
    JSON.stringify([
      'Error from API',
      'The VM could not be resized',
      'The guest has not given up vCPUs 1 and 2 within 300 ms',
    ]),
  ]);
  for (const count of [1, 2, 3, 4]) {
    const { status, json } = await vmm.api('PUT', 'vm.resize', { desired_vcpus: count });
    expect([status, json[2]]).toEqual([
      429,
      'The guest was asked before to give up vCPUs 1 and 2, and has not yet',
    ]);
  }
  expect(await counted()).toEqual(['0', '1', '2']);
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  await settles(async () => expect(vcpuThreads(vmm)).toEqual(['vcpu0']));
  expect(await resize(2, null)).toBe(204);
  expect(await resize(4, null)).toBe(500);
  expect(await resize(0, null)).toBe(500);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  await vmm.exit();
});

test('CPUs that attack the controller while others come and go', async () => {
  const { vmm, resize, counted } = start('hostile-vcpus time=6000000 then=idle', 'boot=4,max=8');
  await vmm.waitFor('ok vcpus-others');
  const answers = new Set<number>();
  let pauses = 0;
  while (!vmm.stdout.includes('vcpus-ended')) {
    for (const count of [6, 4, 7, 4, 8, 5]) answers.add(await resize(count, null));
    for (const command of pauses++ % 2 === 0 ? ['vm.pause', 'vm.resume'] : []) {
      expect((await vmm.api('PUT', command)).status).toBe(204);
    }
    expect((await vmm.api('GET', 'vm.counters')).status).toBe(200);
  }
  expect([...answers].filter((status) => status !== 204 && status !== 429)).toEqual([]);
  expect(answers).toContain(204);
  await vmm.waitFor(/^done \d+\r?\n/m);
  expectAllOk(vmm.stdout);
  // Who was there from the start is there still.
  expect((await counted()).slice(0, 4)).toEqual(['0', '1', '2', '3']);
  expect(vcpuThreads(vmm).length).toBeLessThanOrEqual(8);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('254 vCPUs', async () => {
  const { vmm, resize } = start('vcpus', 'boot=1,max=254');
  await vmm.waitFor('vcpus ready');
  expect(vcpuThreads(vmm)).toEqual(['vcpu0']);
  expect(await resize(254, null)).toBe(204);
  expect(vcpuThreads(vmm)).toHaveLength(254);
  expect((await vmm.api('GET', 'vm.info')).json.config.cpus.boot_vcpus).toBe(254);
  expect(await resize(255, null)).toBe(500);
  await vmm.waitFor('vcpu 1 works');
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
