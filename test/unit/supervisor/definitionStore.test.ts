import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { readDefinition } from '../../../src/supervisor/definition.ts';
import { DefinitionStore } from '../../../src/supervisor/definitionStore.ts';
import { makeFifo } from '../support/fifo.ts';

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-store-'));
  onTestFinished(() => fs.rmSync(root, { recursive: true, force: true }));
});

const definition = (name: string, policy: object = {}) =>
  readDefinition({ name, config: { payload: { kernel: '/k' } }, policy });
const names = () => new DefinitionStore(root).names();
const read = (name: string) => new DefinitionStore(root).read(name);

test('what is added is there for the next process, private to the user', () => {
  const store = new DefinitionStore(root);
  const one = definition('one', { autostart: true, restart: { when: 'OnFailure', max_retries: 3 } });
  store.add(one);
  expect(names()).toEqual(['one']);
  expect(read('one')).toEqual({ definition: one });
  expect(fs.statSync(store.folderOf('one')).mode & 0o777).toBe(0o700);
  expect(fs.statSync(`${store.folderOf('one')}/vm.json`).mode & 0o777).toBe(0o600);
});

test('integers of 64 bits are written and read as they are', () => {
  const store = new DefinitionStore(root);
  const memory = { size: 2n ** 64n - 1n };
  store.add(readDefinition({ name: 'vast', config: { memory } }));
  expect(read('vast')).toMatchObject({ definition: { config: { memory } } });
  expect(fs.readFileSync(`${store.folderOf('vast')}/vm.json`, 'utf8')).toBe(
    '{\n  "memory": {\n    "size": 18446744073709551615\n  }\n}\n',
  );
});

test('a definition is written so that it can be read again: without spaces if there are many, or not at all', () => {
  const store = new DefinitionStore(root);
  const host_cpus = Array.from({ length: 320 }, (_, cpu) => 10_000 + cpu);
  const affinity = Array.from({ length: 200 }, (_, vcpu) => ({ vcpu, host_cpus }));
  const pinned = readDefinition({
    name: 'pinned',
    config: { cpus: { boot_vcpus: 200, max_vcpus: 200, affinity } },
  });
  store.add(pinned);
  expect(read('pinned')).toEqual({ definition: pinned });
  const vast = readDefinition({ name: 'pinned', config: { payload: { cmdline: 'x'.repeat(1 << 20) } } });
  expect(() => store.replace(vast)).toThrow('at most 1048576 bytes');
  expect(() => store.add({ ...vast, name: 'vast' })).toThrow('at most 1048576 bytes');
  expect(read('pinned')).toEqual({ definition: pinned });
  expect(names()).toEqual(['pinned']);
});

test('a folder that somebody made by hand is a definition with the default policy', () => {
  fs.mkdirSync(`${root}/vms/hand`, { recursive: true });
  fs.writeFileSync(`${root}/vms/hand/vm.json`, '{"payload":{"kernel":"/k"}}');
  fs.mkdirSync(`${root}/vms/other`);
  expect(names()).toEqual(['hand']);
  const hand = read('hand').definition;
  const { uuid } = hand.policy;
  expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(hand).toEqual(definition('hand', { uuid }));
  expect(read('hand').definition.policy.uuid).toBe(uuid);
});

test('a definition that cannot be read is named with the reason, left alone, and hides no other', () => {
  const store = new DefinitionStore(root);
  store.add(definition('good'));
  store.add(definition('bad', { autostart: true }));
  fs.writeFileSync(`${store.folderOf('bad')}/vm.json`, '{"payload"');
  store.add(definition('schema'));
  fs.writeFileSync(`${store.folderOf('schema')}/vm.json`, '{"cpus":5}');
  store.add(definition('policy'));
  fs.writeFileSync(`${store.folderOf('policy')}/policy.json`, '{"autostart":"maybe"}');
  expect(names().sort()).toEqual(['bad', 'good', 'policy', 'schema']);
  expect(read('good').problem).toBeUndefined();
  expect(read('bad')).toMatchObject({
    definition: { name: 'bad', config: {}, policy: { autostart: true } },
    problem: { reason: expect.stringMatching(/Cannot read .*bad\/vm.json: /), config: true, policy: false },
  });
  expect(read('schema').problem?.reason).toMatch(/vm.json.cpus: invalid type/);
  expect(read('policy')).toMatchObject({
    definition: { config: { payload: { kernel: '/k' } }, policy: { autostart: false } },
    problem: {
      reason: expect.stringMatching(/policy.json.autostart: invalid type/),
      config: false,
      policy: true,
    },
  });
  expect(fs.readFileSync(`${store.folderOf('bad')}/vm.json`, 'utf8')).toBe('{"payload"');
});

test('a definition that is a FIFO keeps nobody waiting, and one that is vast is not read', () => {
  const store = new DefinitionStore(root);
  store.add(definition('pipe'));
  makeFifo(`${store.folderOf('pipe')}/vm.json`);
  makeFifo(`${store.folderOf('pipe')}/policy.json`);
  expect(read('pipe').problem?.reason).toMatch(
    /vm.json: .* is not a regular file; .*policy.json: .* is not a regular file/,
  );
  store.add(definition('vast'));
  fs.truncateSync(`${store.folderOf('vast')}/vm.json`, (1 << 20) + 1);
  expect(read('vast').problem?.reason).toMatch(/has more than 1048576 bytes/);
});

test('a folder that no VM can be called as, and one with nothing but a process', () => {
  const store = new DefinitionStore(root);
  for (const name of ['my vm', 'bare']) fs.mkdirSync(`${root}/vms/${name}`);
  fs.writeFileSync(`${root}/vms/my vm/vm.json`, '{}');
  fs.writeFileSync(`${root}/vms/bare/vmhost.pid`, '1');
  expect(store.misnamed()).toEqual(['my vm']);
  expect(store.names()).toEqual(['bare']);
  expect(store.read('bare').problem?.reason).toMatch(/ENOENT/);
});

test('whatever changes a definition changes its version', () => {
  const store = new DefinitionStore(root);
  const one = definition('one');
  store.add(one);
  const first = store.version('one');
  expect(store.version('one')).toBe(first);
  fs.writeFileSync(`${store.folderOf('one')}/serial.log`, 'x');
  expect(store.version('one')).toBe(first);
  store.replace(one);
  const second = store.version('one');
  expect(second).not.toBe(first);
  fs.appendFileSync(`${store.folderOf('one')}/policy.json`, ' ');
  expect(store.version('one')).not.toBe(second);
  expect(store.version('none')).toBeUndefined();
});

test('what a killed process had not finished adding or removing is gone', () => {
  const store = new DefinitionStore(root);
  store.add(definition('kept'));
  fs.mkdirSync(`${root}/vms/.new-half`);
  fs.writeFileSync(`${root}/vms/.new-half/vm.json`, '{"payl');
  fs.mkdirSync(`${root}/vms/.removed-old`);
  expect(names()).toEqual(['kept']);
  expect(fs.readdirSync(`${root}/vms`)).toEqual(['kept']);
});

test('a definition is replaced and removed', () => {
  const store = new DefinitionStore(root);
  store.add(definition('one'));
  const changed = readDefinition({
    name: 'one',
    config: { payload: { kernel: '/other' } },
    policy: { autostart: true },
  });
  store.replace(changed);
  expect(read('one')).toEqual({ definition: changed });
  store.remove('one');
  expect(names()).toEqual([]);
  expect(fs.readdirSync(`${root}/vms`)).toEqual([]);
});

test('adding fails with nothing added where a folder is in the way', () => {
  const store = new DefinitionStore(root);
  fs.mkdirSync(`${root}/vms/one`);
  fs.writeFileSync(`${root}/vms/one/precious`, 'x');
  expect(() => store.add(definition('one'))).toThrow(/ENOTEMPTY|EEXIST/);
  expect(fs.readdirSync(`${root}/vms`)).toEqual(['one']);
  expect(fs.readFileSync(`${root}/vms/one/precious`, 'utf8')).toBe('x');
});

test.each(['', '.x', '-x', '_x', 'a/b', '..', 'a b', 'x'.repeat(64), 5, null])('%j is no name', (name) => {
  expect(() => readDefinition({ name, config: {} })).toThrow(/is no name of a VM/);
});

test.each([
  [{ config: 5 }, /config: invalid type/],
  [{ config: { cpus: { boot_vcpus: 'x', max_vcpus: 1 } } }, /config.cpus.boot_vcpus/],
  [{ config: {}, policy: { restrat: {} } }, /policy: unknown field `restrat`/],
  [{ config: {}, policy: { uuid: 'x' } }, /policy.uuid: "x" is no UUID/],
  [{ config: {}, policy: { restart: { when: 'Sometimes' } } }, /policy.restart.when: unknown variant/],
])('%j is no definition', (value, message) => {
  expect(() => readDefinition({ name: 'a', ...value })).toThrow(message);
});

test('a VM whose socket would have too long a path is refused when it is defined', () => {
  const inside = `${root}/${'d'.repeat(107 - `${root}/`.length - '/vms/one/vmhost.sock'.length)}`;
  const store = new DefinitionStore(inside);
  store.add(definition('one'));
  expect(() => store.add(definition('ones'))).toThrow(/has 108 bytes, and a socket's path at most 107/);
  expect(fs.readdirSync(`${inside}/vms`)).toEqual(['one']);
});

test('a definition that cannot be written says whose, and why', () => {
  const store = new DefinitionStore(root);
  fs.rmSync(`${root}/vms`, { recursive: true });
  expect(() => store.add(definition('one'))).toThrow(
    /The definition of the VM one cannot be written: ENOENT/,
  );
});
