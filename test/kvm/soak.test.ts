/** The library used for long: nothing is lost, and nothing becomes more. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { PAYLOAD, ROOT } from './support.ts';

const PROGRAM = path.join(ROOT, 'test/kvm/soakProgram.mjs');
const LIBRARY = path.join(ROOT, 'dist/js/index.js');

// What the engines keep for themselves (compiled code, a young generation that grows) is no leak, and is kept small.
const NODE = [process.execPath, '--expose-gc', '--max-semi-space-size=1'] as const;
const BUN = [path.join(ROOT, 'node_modules/.bin/bun')] as const;
const env = { ...process.env, BUN_JSC_useJIT: '0' };

/** Each with the KiB of anonymous memory that may be more after eight rounds, of some eight rounds. */
test.each([
  // 32 workers: a quarter of what a worker's heap is at least, 3 KiB for each of 320 VMs.
  ['VMs in workers of Node.js', 'workers', NODE, 1024],
  ['VMs in workers of Bun', 'workers', BUN, 1024],
  // 1,440 exceptions.
  ['exceptions of listeners on Node.js', 'listeners', NODE, 512],
  ['exceptions of listeners on Bun', 'listeners', BUN, 512],
  // 640 VMs.
  ['starts on Bun, four at a time', 'starts', BUN, 512],
])('%s', async (_name, task, [runtime, ...flags], limit) => {
  const words = [...flags, PROGRAM, task, LIBRARY, PAYLOAD, String(limit)];
  const { stdout } = await promisify(execFile)(runtime, words, { env });
  const { lost, exceptions, more } = JSON.parse(stdout);
  expect(lost).toEqual([]);
  if (task === 'listeners') expect(exceptions).toBeGreaterThanOrEqual(2000);
  expect(more).toEqual({ descriptors: 0, threads: 0, anonymousKiB: expect.any(Number) });
  expect(more.anonymousKiB).toBeLessThanOrEqual(limit);
});
