import { afterEach, expect, test, vi } from 'vitest';
import { Waiting, within } from '../../../src/vmm/waiting.ts';

afterEach(() => {
  vi.useRealTimers();
});

const never = new Promise<never>(() => {});

test('who waits too long is told why, also where that cannot be said', async () => {
  await expect(within(never, { timeoutMs: 1 }, () => new Error('late'))).rejects.toThrow('late');
  // Such as that there is no machine any more that could be looked at.
  const gone = (): never => {
    throw new Error('VM is not running');
  };
  await expect(within(never, { timeoutMs: 1 }, gone)).rejects.toThrow('VM is not running');
  await expect(new Waiting().until(() => false, { timeoutMs: 1 }, gone)).rejects.toThrow('VM is not running');
});

test('what has happened in time is what it ends with', async () => {
  await expect(within(Promise.resolve(3), { timeoutMs: 1 }, () => new Error('late'))).resolves.toBe(3);
  const waiting = new Waiting();
  let done = false;
  const waited = waiting.until(
    () => done,
    { timeoutMs: 60_000 },
    () => 'nothing happened',
  );
  waiting.tell();
  done = true;
  waiting.tell();
  await waited;
});

test('an aborted wait throws the reason, and leaves no timer', async () => {
  vi.useFakeTimers();
  const { signal, ...control } = calledOff();
  const waiting = new Waiting();
  let looks = 0;
  const looked = () => {
    looks++;
    return false;
  };
  const waited = waiting.until(looked, { timeoutMs: 60_000, signal }, () => 'nothing happened');
  expect(vi.getTimerCount()).toBe(1);
  control.abort();
  await expect(waited).rejects.toThrow('left');
  expect(vi.getTimerCount()).toBe(0);
  waiting.tell();
  expect(looks).toBe(1);
  // Who comes too late does not wait at all.
  await expect(within(never, { timeoutMs: 60_000, signal }, () => new Error('late'))).rejects.toThrow('left');
  expect(vi.getTimerCount()).toBe(0);
});

function calledOff() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort(new Error('left')) };
}
