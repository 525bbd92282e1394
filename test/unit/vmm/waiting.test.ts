import { expect, test } from 'vitest';
import { Waiting, within } from '../../../src/vmm/waiting.ts';

const never = new Promise<never>(() => {});

test('who waits too long is told why, also where that cannot be said', async () => {
  await expect(within(never, 1, () => new Error('late'))).rejects.toThrow('late');
  // Such as that there is no machine any more that could be looked at.
  const gone = (): never => {
    throw new Error('VM is not running');
  };
  await expect(within(never, 1, gone)).rejects.toThrow('VM is not running');
  await expect(new Waiting().until(() => false, 1, gone)).rejects.toThrow('VM is not running');
});

test('what has happened in time is what it ends with', async () => {
  await expect(within(Promise.resolve(3), 1, () => new Error('late'))).resolves.toBe(3);
  const waiting = new Waiting();
  let done = false;
  const waited = waiting.until(
    () => done,
    60_000,
    () => 'nothing happened',
  );
  waiting.tell();
  done = true;
  waiting.tell();
  await waited;
});
