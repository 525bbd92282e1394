import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { threadsOf } from '../../../src/supervisor/processStat.ts';

/** Calls its thread as it is told to, and ends when it hears something. */
const PROGRAM = `
  const { parentPort, workerData } = require('node:worker_threads');
  require('node:fs').writeFileSync('/proc/thread-self/comm', workerData);
  parentPort.once('message', () => process.exit());
  parentPort.postMessage('named');`;

async function thread(name: string): Promise<Worker> {
  const worker = new Worker(PROGRAM, { eval: true, workerData: name });
  onTestFinished(() => void worker.terminate());
  await once(worker, 'message');
  return worker;
}

test('a thread that ends while threads are listed hides none of those after it', async () => {
  for (let round = 0; round < 5; round++) {
    const ending = await thread('ending');
    await thread(`stays ${round}`);
    ending.postMessage('end');
    const until = performance.now() + 100;
    while (performance.now() < until) expect([...threadsOf(process.pid).keys()]).toContain(`stays ${round}`);
  }
});

test('a process that is not there has no threads', () => {
  expect([...threadsOf(2 ** 30)]).toEqual([]);
});
