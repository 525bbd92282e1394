import { spawn } from 'node:child_process';
import { expect, test, vi } from 'vitest';
import { ageOf, identify, isAlive, killProcess } from '../../../src/supervisor/processIdentity.ts';
import { Stopwatch } from '../../../src/supervisor/stopwatch.ts';

test('a process is itself until it ends, and another one with its id is not it', async () => {
  const child = spawn('sleep', ['600'], { argv0: 'a ) S 1 name', stdio: 'ignore' });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  const identity = identify(child.pid as number);
  expect(isAlive(identity)).toBe(true);
  expect(ageOf(identity)).toBeLessThan(60);
  const earlier = { ...identity, startTime: identity.startTime - 1 };
  expect(isAlive(earlier)).toBe(false);
  killProcess(earlier);
  expect(isAlive(identity)).toBe(true);
  killProcess(identity);
  await gone;
  expect(isAlive(identity)).toBe(false);
  expect(isAlive(identify(child.pid as number))).toBe(false);
});

test('a clock that is set changes when something began, and not how long ago that was', () => {
  const now = vi.spyOn(Date, 'now').mockReturnValue(1_000_000_000);
  const run = new Stopwatch(60_000);
  expect(run.begun.getTime()).toBe(1_000_000_000 - 60_000);
  expect(run.elapsedMs).toBeLessThan(120_000);
  now.mockReturnValue(5_000_000_000);
  expect(Math.abs(run.begun.getTime() - (5_000_000_000 - 60_000))).toBeLessThan(60_000);
  expect(run.elapsedMs).toBeLessThan(120_000);
  now.mockReturnValue(0);
  expect(run.elapsedMs).toBeGreaterThanOrEqual(60_000);
  now.mockRestore();
});
