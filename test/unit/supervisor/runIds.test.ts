import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { identify } from '../../../src/supervisor/processIdentity.ts';
import { RunIds } from '../../../src/supervisor/runIds.ts';

let root: string;
let warnings: string[];
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-runs-'));
  warnings = [];
  onTestFinished(() => fs.rmSync(root, { recursive: true, force: true }));
});

const folder = (name: string) => {
  fs.mkdirSync(`${root}/${name}`, { recursive: true });
  return `${root}/${name}`;
};
const open = (...names: readonly string[]) =>
  new RunIds({ root, folders: () => names.map(folder), warn: (message) => void warnings.push(message) });
const process = (pid: number) => ({ pid, startTime: 1_000 + pid });

test('a run keeps its id, and each process is another run', () => {
  const first = open();
  expect(['a', 'b'].map((name, pid) => first.of(folder(name), process(pid)))).toEqual([1, 2]);
  expect(first.of(folder('a'), process(0))).toBe(1);
  expect(first.of(folder('a'), process(7))).toBe(3);
  expect(first.of(folder('a'), { pid: 7, startTime: 1 })).toBe(4);
});

test.each([
  ['in order', true],
  ['by SIGKILL', false],
])('after a supervisor that ended %s runs have their ids, and none is given again', (_, inOrder) => {
  const first = open();
  const given = ['a', 'b', 'gone'].map((name, pid) => first.of(folder(name), process(pid)));
  fs.rmSync(folder('gone'), { recursive: true });
  if (inOrder) first.close();
  const next = open('a', 'b');
  expect(next.of(folder('new'), process(9))).toBeGreaterThan(Math.max(...given));
  expect([next.of(folder('b'), process(1)), next.of(folder('a'), process(0))]).toEqual([2, 1]);
  expect(warnings).toEqual([]);
});

test('ids are given one after the other where every supervisor ends in order', () => {
  for (const id of [1, 2, 3]) {
    const ids = open();
    expect(ids.of(folder('a'), process(id))).toBe(id);
    ids.close();
  }
});

test.each([
  ['is gone', undefined, 0],
  ['was cut off', '', 1],
  ['has random bytes', Buffer.from([0xff, 0, 0x31, 0x0a]), 1],
  ['has a number that is none of an id', '99999999999\n', 1],
])('where the file %s, no run is given the id of another that goes on', (_, content, said) => {
  const first = open();
  for (const pid of [1, 2, 3, 4]) first.of(folder(`vm${pid}`), process(pid));
  if (content === undefined) fs.rmSync(`${root}/run-ids`);
  else fs.writeFileSync(`${root}/run-ids`, content);
  const next = open('vm1', 'vm2', 'vm3', 'vm4');
  expect(next.of(folder('new'), process(9))).toBe(5);
  expect(next.of(folder('vm4'), process(4))).toBe(4);
  expect(warnings).toHaveLength(said);
});

test.each(['', '{"id":1', '{"id":"1"}', '{"id":0}', '{"id":2147483648}', 'null'])(
  'a run of which %j is noted is given a new id',
  (content) => {
    const ids = open();
    ids.of(folder('a'), process(1));
    fs.writeFileSync(`${root}/a/run.json`, content);
    expect(ids.of(folder('a'), process(1))).toBe(2);
  },
);

test('where a damaged file names the last id, no run is given that of another that goes on', () => {
  const first = open();
  const alive = identify(globalThis.process.pid);
  expect(first.of(folder('ended'), process(1))).toBe(1);
  expect(first.of(folder('on'), alive)).toBe(2);
  fs.writeFileSync(`${folder('damaged')}/run.json`, '{"id":2147483647,"pid":1,"startTime":1}');
  const next = open('ended', 'on', 'damaged');
  expect([3, 4].map((pid) => next.of(folder(`new${pid}`), process(pid)))).toEqual([1, 3]);
  expect(next.of(folder('on'), alive)).toBe(2);
  expect(fs.readFileSync(`${root}/run-ids`, 'utf8')).toBe('101\n');
});

test('a folder that takes nothing is told of, and ids are given all the same', () => {
  const ids = open();
  fs.mkdirSync(`${root}/run-ids`);
  const missing = `${root}/missing`;
  expect([ids.of(missing, process(1)), ids.of(missing, process(2))]).toEqual([1, 2]);
  expect(warnings.join('\n')).toMatch(/Ids of runs may be given again .*EISDIR/);
  expect(warnings.join('\n')).toMatch(/The next tsvmmd will have another id .*ENOENT/);
});
