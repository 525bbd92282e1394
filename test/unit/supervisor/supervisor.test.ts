/** All VMs of a folder, where people change what is in it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import type { Supervisor } from '../../../src/supervisor/supervisor.ts';
import { supervisorWithoutProcesses } from '../support/supervisorWithoutProcesses.ts';

let root: string;
let warnings: string[];
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-supervisor-'));
  warnings = [];
  onTestFinished(() => fs.rmSync(root, { recursive: true, force: true }));
});

async function open(): Promise<Supervisor> {
  const places = { root, apiSocket: `${root}/tsvmmd.sock`, childSocket: `${root}/children.sock` };
  const warn = (message: string) => void warnings.push(message);
  const supervisor = supervisorWithoutProcesses({ places, warn });
  await supervisor.open();
  onTestFinished(() => supervisor.close());
  return supervisor;
}

const config = { payload: { kernel: '/k' } };
const file = (name: string, which: string) => `${root}/vms/${name}/${which}`;
const states = (supervisor: Supervisor) =>
  Object.fromEntries(supervisor.list().map(({ name, state }) => [name, state]));

test('what is changed by hand is what is listed, and what is started', async () => {
  const supervisor = await open();
  supervisor.define({ name: 'one', config });
  const { uuid } = supervisor.get('one').definition.policy;
  fs.writeFileSync(file('one', 'vm.json'), '{"payload":{"kernel":"/other"}}');
  expect(supervisor.get('one').definition.config).toEqual({ payload: { kernel: '/other' } });
  fs.writeFileSync(file('one', 'policy.json'), JSON.stringify({ uuid, autostart: true }));
  expect(supervisor.list()[0]?.policy).toMatchObject({ uuid, autostart: true });
  fs.cpSync(`${root}/vms/one`, `${root}/vms/two`, { recursive: true });
  expect(states(supervisor)).toEqual({ one: 'stopped', two: 'stopped' });
  fs.rmSync(`${root}/vms/one`, { recursive: true });
  expect(states(supervisor)).toEqual({ two: 'stopped' });
  expect(supervisor.events.after(0).map(({ vm, event }) => `${vm} ${event}`)).toEqual([
    'one defined',
    'one redefined',
    'one redefined',
    'two defined',
    'one removed',
  ]);
});

test('a broken definition is listed with its reason, cannot start, and can be repaired or removed', async () => {
  const first = await open();
  for (const name of ['hand', 'api', 'gone']) first.define({ name, config, policy: { autostart: true } });
  first.close();
  for (const name of ['hand', 'api', 'gone']) fs.writeFileSync(file(name, 'vm.json'), '{"payload"');
  const supervisor = await open();
  expect(warnings).toHaveLength(3);
  expect(states(supervisor)).toEqual({ hand: 'broken', api: 'broken', gone: 'broken' });
  expect(supervisor.get('hand').describe().error).toMatch(/Cannot read .*hand\/vm.json/);
  expect(supervisor.get('hand').describe()).not.toHaveProperty('config');
  expect(supervisor.get('hand').describe().policy).toMatchObject({ autostart: true });
  await expect(supervisor.get('hand').start()).rejects.toMatchObject({
    kind: 'conflict',
    message: expect.stringMatching(/^The definition of the VM hand is broken: Cannot read /),
  });
  fs.writeFileSync(file('hand', 'vm.json'), JSON.stringify(config));
  supervisor.redefine('api', { config });
  await supervisor.remove('gone', false);
  expect(states(supervisor)).toMatchObject({ hand: expect.stringMatching(/stopped|failed/) });
  expect(supervisor.get('api').state).not.toBe('broken');
  expect(fs.existsSync(`${root}/vms/gone`)).toBe(false);
});

test('what a supervisor that was killed had begun to write goes with the next one', async () => {
  const first = await open();
  first.define({ name: 'one', config });
  first.close();
  const suffix = '12.tsvmm-unfinished';
  const begun = [`${root}/run-ids`, file('one', 'vm.json'), file('one', 'vmhost.pid')].map(
    (each) => `${each}.${suffix}`,
  );
  const ofOthers = [`${root}/export.1.new`, file('one', 'root.2026.new')];
  for (const each of [...begun, ...ofOthers]) fs.writeFileSync(each, '');
  const supervisor = await open();
  expect(states(supervisor)).toEqual({ one: 'stopped' });
  // The last one is a process's of its own, which may be about to finish it.
  expect(begun.map((each) => fs.existsSync(each))).toEqual([false, false, true]);
  expect(ofOthers.map((each) => fs.existsSync(each))).toEqual([true, true]);
});

test('a definition that is replaced keeps its UUID, unless it is given another', async () => {
  const supervisor = await open();
  const uuid = supervisor.define({ name: 'one', config }).policy?.uuid;
  expect(supervisor.redefine('one', { config }).policy?.uuid).toBe(uuid);
  const other = '11111111-2222-3333-4444-555555555555';
  expect(supervisor.redefine('one', { config, policy: { uuid: other } }).policy?.uuid).toBe(other);
});

test.each([
  ['{"uuid":"11111111-2222-3333-4444-555555555555","nonsense":1}', '11111111-2222-3333-4444-555555555555'],
  ['{"uuid":"nonsense","nonsense":1}', expect.stringMatching(/^.{8}-.{4}-5/)],
  ['{"uu', expect.stringMatching(/^.{8}-.{4}-5/)],
])('a VM whose policy is %s shows none, and is known by %s', async (text, uuid) => {
  const first = await open();
  first.define({ name: 'one', config });
  first.close();
  fs.writeFileSync(file('one', 'policy.json'), text);
  const supervisor = await open();
  const [vm] = supervisor.list();
  expect(vm).toMatchObject({ state: 'broken', error: expect.stringMatching(/policy.json/), config });
  expect(vm).not.toHaveProperty('policy');
  expect(supervisor.get('one').definition.policy.uuid).toEqual(uuid);
});

test('a folder that cannot be read for a while loses no VM', async () => {
  const supervisor = await open();
  supervisor.define({ name: 'one', config });
  fs.renameSync(`${root}/vms`, `${root}/away`);
  expect(states(supervisor)).toEqual({ one: 'stopped' });
  fs.renameSync(`${root}/away`, `${root}/vms`);
  expect(states(supervisor)).toEqual({ one: 'stopped' });
});

test.each([
  ['Never', { reason: 'power-off', code: 0 }, 'stopped', false],
  ['OnFailure', { reason: 'power-off', code: 0 }, 'stopped', false],
  ['OnFailure', { reason: 'vcpu-error', code: 1, message: 'x' }, 'started', true],
  ['OnFailure', undefined, 'started', true],
  ['Always', { reason: 'power-off', code: 0 }, 'started', true],
  ['Never', undefined, 'failed', false],
])('a VM under %s that ended with %j while nobody looked is %s', async (when, exit, outcome, again) => {
  const first = await open();
  first.define({ name: 'one', config, policy: { restart: { when } } });
  first.close();
  fs.writeFileSync(file('one', 'wanted'), '');
  if (exit) fs.writeFileSync(file('one', 'exit.json'), JSON.stringify(exit));
  const supervisor = await open();
  const told = supervisor.events.after(0).map(({ event, properties }) => `${event} ${properties?.reason}`);
  expect(told[0]).toBe(`stopped ${exit?.reason ?? 'killed'}`);
  const { state, last_exit } = supervisor.get('one').describe();
  if (again) expect(['starting', 'waiting']).toContain(state);
  else expect({ state, last_exit }).toEqual({ state: outcome, last_exit: exit ?? { reason: 'killed' } });
  expect(fs.existsSync(file('one', 'wanted'))).toBe(again);
});

test('a transient VM that ended while no supervisor ran is removed, and reported', async () => {
  const first = await open();
  first.define({ name: 'one', config, policy: { transient: true } });
  first.define({ name: 'two', config });
  first.close();
  fs.writeFileSync(file('one', 'wanted'), '');
  fs.writeFileSync(file('one', 'exit.json'), JSON.stringify({ reason: 'power-off', code: 0 }));
  const supervisor = await open();
  const told = () => supervisor.events.after(0).map(({ vm, event }) => `${vm} ${event}`);
  await vi.waitFor(() => expect(told()).toEqual(['one stopped', 'one removed']));
  expect(states(supervisor)).toEqual({ two: 'stopped' });
  expect(fs.existsSync(`${root}/vms/one`)).toBe(false);
});

test('a transient VM is removed once it could not start, but not while it is started again', async () => {
  const supervisor = await open();
  supervisor.define({ name: 'one', config, policy: { transient: true } });
  supervisor.define({ name: 'two', config, policy: { transient: true, restart: { when: 'OnFailure' } } });
  for (const name of ['one', 'two']) await expect(supervisor.get(name).start()).rejects.toThrow();
  await vi.waitFor(() => expect(states(supervisor)).not.toHaveProperty('one'));
  expect(states(supervisor)).toHaveProperty('two');
  await supervisor.get('two').stop(0);
  await vi.waitFor(() => expect(states(supervisor)).toEqual({}));
});

test('what is told of a definition says whether the VM is transient, where that matters', async () => {
  const supervisor = await open();
  supervisor.define({ name: 'one', config, policy: { transient: true } });
  supervisor.redefine('one', { config, policy: {} });
  supervisor.redefine('one', { config, policy: {} });
  supervisor.redefine('one', { config, policy: { transient: true } });
  await supervisor.remove('one', false);
  const told = supervisor.events.after(0).map(({ event, properties }) => `${event} ${properties?.transient}`);
  expect(told).toEqual([
    'defined true',
    'redefined false',
    'redefined undefined',
    'redefined true',
    'removed true',
  ]);
  expect(() =>
    supervisor.define({ name: 'two', config, policy: { transient: true, autostart: true } }),
  ).toThrow('autostart');
});

test('VMs with autostart are started once since the host has, and when the supervisor had ended them', async () => {
  const starts = (supervisor: Supervisor) =>
    supervisor.events.after(0).filter(({ event }) => event === 'start-failed').length;
  const first = await open();
  first.define({ name: 'one', config, policy: { autostart: true } });
  await vi.waitFor(() => expect(fs.existsSync(`${root}/autostarted`)).toBe(true));
  first.close();
  const renewed = await open();
  expect(renewed.isWanted(renewed.get('one'))).toBe(false);
  renewed.close();
  expect(starts(renewed)).toBe(0);

  fs.writeFileSync(`${root}/autostarted`, 'an earlier start of the host');
  const booted = await open();
  await vi.waitFor(() => expect(starts(booted)).toBe(1));
  await vi.waitFor(() => expect(booted.isWanted(booted.get('one'))).toBe(false));
  await booted.stopAll();
  booted.close();
  const again = await open();
  await vi.waitFor(() => expect(starts(again)).toBe(1));
});

test('a machine that could not start is not defined, and replaces none', async () => {
  const supervisor = await open();
  supervisor.define({ name: 'one', config });
  const topology = { threads_per_core: 1, cores_per_die: 3, dies_per_package: 1, packages: 1 };
  const wrong = { ...config, cpus: { boot_vcpus: 4, max_vcpus: 4, topology } };
  expect(() => supervisor.define({ name: 'two', config: wrong })).toThrow('(3) is not max_vcpus (4)');
  expect(() => supervisor.redefine('one', { config: wrong })).toThrow('(3) is not max_vcpus (4)');
  expect(() => supervisor.define({ name: 'two', config: {} })).toThrow('neither firmware nor kernel');
  expect(states(supervisor)).toEqual({ one: 'stopped' });
  expect(supervisor.get('one').definition.config).toEqual(config);
});
