import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { threadsOf } from '../../../src/supervisor/processStat.ts';

/** Ends when it is told something. */
const PROGRAM =
  "const { parentPort } = require('node:worker_threads'); parentPort.once('message', () => process.exit());";

async function thread(): Promise<Worker> {
  const worker = new Worker(PROGRAM, { eval: true });
  onTestFinished(() => void worker.terminate());
  await new Promise((resolve) => worker.once('online', resolve));
  return worker;
}

const latest = () => Math.max(...threadsOf(process.pid).values());

test('a thread that ends while threads are listed hides none of those after it', async () => {
  for (let round = 0; round < 5; round++) {
    const ending = await thread();
    await thread();
    const last = latest();
    ending.postMessage('end');
    const until = performance.now() + 100;
    while (performance.now() < until) expect(latest()).toBeGreaterThanOrEqual(last);
  }
});

test('a process that is not there has no threads', () => {
  expect([...threadsOf(2 ** 30)]).toEqual([]);
});
