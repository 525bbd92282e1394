import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { clockOf, queuedMs, within } from '../../../scripts/lab/labTime.mjs';

/** Processes that share a processor; each runs a line of shell. */
async function onOneProcessor(...lines: string[]): Promise<ChildProcess[]> {
  const children = lines.map((line) =>
    spawn('taskset', ['-c', '0', 'sh', '-c', line], { stdio: ['pipe', 'ignore', 'inherit'] }),
  );
  onTestFinished(() => {
    for (const child of children) child.kill('SIGKILL');
  });
  await Promise.all(children.map((child) => once(child, 'spawn')));
  return children;
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const RUNS = 'while :; do :; done';

test('who has to share a processor waits for it; who sleeps, or is no more, does not', async () => {
  const [one, other, idle] = await onOneProcessor(RUNS, RUNS, 'read line');
  await expect.poll(() => queuedMs(one?.pid ?? 0), { interval: 50 }).toBeGreaterThan(200);
  await expect.poll(() => queuedMs(other?.pid ?? 0), { interval: 50 }).toBeGreaterThan(200);
  const before = queuedMs(idle?.pid ?? 0);
  await pause(500);
  expect(queuedMs(idle?.pid ?? 0)).toBeLessThan(before + 100);
  one?.kill('SIGKILL');
  if (one) await once(one, 'close');
  expect(queuedMs(one?.pid ?? 0)).toBe(0);
});

test('the clock of a process runs slower by what it waits, and goes on when it has ended', async () => {
  const [busy] = await onOneProcessor(RUNS, RUNS, RUNS);
  const now = clockOf(busy?.pid);
  const [begin, real] = [now(), performance.now()];
  await expect.poll(() => performance.now() - real - (now() - begin), { interval: 50 }).toBeGreaterThan(300);
  const [last, then] = [now(), performance.now()];
  busy?.kill('SIGKILL');
  if (busy) await once(busy, 'close');
  await pause(50);
  // Not by what was waited for before: a deadline would be over at once.
  expect(now() - last).toBeLessThanOrEqual(performance.now() - then);
  expect(now()).toBeGreaterThan(last);
});

test('a deadline waits for its clock', async () => {
  let time = 0;
  const late: string[] = [];
  const never = new Promise<string>(() => {});
  const waiting = within(
    () => time,
    0.01,
    never,
    () => {
      late.push('late');
      return 'too late';
    },
  );
  await pause(100);
  expect(late).toEqual([]);
  time = 10;
  expect(await waiting).toBe('too late');
});

test('what comes in time is passed on, also an error; so is an error of who is late', async () => {
  const fail = () => {
    throw new Error('late');
  };
  expect(await within(() => 0, 1, Promise.resolve(1), fail)).toBe(1);
  await expect(within(() => 0, 1, Promise.reject(new Error('its own')), fail)).rejects.toThrow('its own');
  await expect(within(clockOf(undefined), 0.01, new Promise(() => {}), fail)).rejects.toThrow('late');
});

test('who is late has the last word, also where that ends what was waited for', async () => {
  for (const event of ['resolved', 'rejected']) {
    const killed = new EventEmitter();
    const ended = new Promise<string>((resolve, reject) => {
      killed.once('resolved', resolve).once('rejected', reject);
    });
    const late = async () => {
      killed.emit(event, 'killed');
      await pause(10);
      return 'too late';
    };
    expect(await within(clockOf(undefined), 0.01, ended, late)).toBe('too late');
  }
});
