import { expect, test } from 'vitest';
import { TopRows, topLines } from '../../../src/cli/vms/top.ts';

const vm = (name: string, pid: number, cpu_seconds: number) => ({
  name,
  pid,
  cpu_seconds,
  state: 'running',
  uptime_seconds: 90,
  memory_bytes: 64 << 20,
});

test('processors are what was used between two looks, the busiest first; a new process begins anew', () => {
  const samples = new TopRows();
  const first = samples.add([vm('a', 1, 10), vm('b', 2, 5), vm('c', 3, 7)], 1_000);
  expect(first.map(({ name, cpus }) => [name, cpus])).toEqual([
    ['a', undefined],
    ['b', undefined],
    ['c', undefined],
  ]);
  const second = samples.add([vm('a', 1, 10.5), vm('b', 2, 8), vm('c', 4, 0.1)], 3_000);
  expect(second.map(({ name, cpus }) => [name, cpus])).toEqual([
    ['b', 1.5],
    ['a', 0.25],
    ['c', undefined],
  ]);
});

test('lines are no wider than the terminal', () => {
  const rows = [{ ...vm('a'.repeat(60), 1, 10), cpus: 0.5 }];
  const lines = topLines(rows, 2, 50);
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(50);
  expect(topLines(rows, 2, 200)).toEqual([
    '1 VMs use 50.0 % of a processor and 64 MiB; every 2 s',
    expect.stringMatching(/^NAME +STATE +UP +CPU +MEMORY +CPU TIME$/),
    expect.stringMatching(/^a+ +running +1m30s +50\.0 % +64 MiB +10\.00 s$/),
  ]);
});
