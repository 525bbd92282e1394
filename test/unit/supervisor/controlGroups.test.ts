/** What is written to control groups, which are plain files here. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ControlGroups } from '../../../src/supervisor/controlGroups.ts';

const PID = 4711;

function group(processes: string, enabled = '') {
  const base = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-cgroup-'));
  onTestFinished(() => fs.rmSync(base, { recursive: true }));
  const file = (name: string) => path.join(base, name);
  fs.writeFileSync(file('cgroup.procs'), processes);
  fs.writeFileSync(file('cgroup.controllers'), 'cpuset cpu memory pids\n');
  fs.writeFileSync(file('cgroup.subtree_control'), enabled);
  const read = (name: string) =>
    fs.existsSync(file(name)) ? fs.readFileSync(file(name), 'utf8') : undefined;
  return { base, read, groups: new ControlGroups(base, PID) };
}

test('a supervisor that is alone in its group goes below it, and enables what limits need', () => {
  const { read, groups } = group(`${PID}\n`);
  expect(read('tsvmmd/cgroup.procs')).toBe(String(PID));
  expect(groups.apply('one', 1, {})).toBeUndefined();
  expect(read('cgroup.subtree_control')).toBe('');
  expect(groups.apply('one', 1, { cpus: 1_500, memory: 1 << 30 })).toBeUndefined();
  expect(read('cgroup.subtree_control')).toBe('+cpu +memory');
  expect(read('tsvmm-one/cpu.max')).toBe('150000 100000');
  expect(read('tsvmm-one/memory.max')).toBe(String(1 << 30));
  expect(read('tsvmm-one/cgroup.procs')).toBe('1');
});

test('what is enabled is left as it is', () => {
  const { read, groups } = group(`${PID}\n`, 'cpu memory\n');
  expect(groups.apply('one', 1, { memory: 4_096 })).toBeUndefined();
  expect(read('cgroup.subtree_control')).toBe('cpu memory\n');
});

test('processes of others are not moved, and what is missing is said by name', () => {
  const { base, read, groups } = group(`${PID}\n1\n`);
  expect(read('tsvmmd/cgroup.procs')).toBeUndefined();
  fs.writeFileSync(path.join(base, 'cgroup.controllers'), 'memory\n');
  expect(groups.apply('one', 1, { cpus: 1, memory: 4_096 })).toBe(
    `The limits are not kept: ${base} has no controller cpu`,
  );
});
