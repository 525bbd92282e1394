import { expect, test } from 'vitest';
import { attempt } from '../../../bench/boot/turns.mjs';
import { Results } from '../../../bench/lib/results.mjs';
import { costsIn, JOBS, jobLines } from '../../../bench/linux/jobs.mjs';
import { Failure } from '../../../scripts/lib/progress.mjs';

test('costs are instructions a request, of the jobs that are known', () => {
  const [one, other] = JOBS;
  if (!one || !other) throw new Error('no jobs');
  const printed = [
    `bench-result ${one.name} ${one.count * 50_000}\r`,
    `bench-failed ${other.name} a read gave something else\r`,
    'bench-result another 7\r',
    'bench-done\r',
  ].join('\n');
  expect([...costsIn(printed)]).toEqual([[one.name, 50]]);
});

test('the first job writes whatever later ones read', () => {
  expect(JOBS[0]).toMatchObject({ direction: 'write', order: 'sequential' });
  for (const line of jobLines().trim().split('\n')) {
    expect(line).toMatch(/^\S+ (read|write) (random|sequential) \d+ \d+ \d+$/);
  }
});

test('a run that fails is told and ends nothing; a mistake of ours ends it', async () => {
  const results = new Results('boot');
  const fail = async (error: Error) => {
    throw error;
  };
  expect(await attempt(results, 'tsvmm', async () => {})).toBe(true);
  expect(await attempt(results, 'peer, round 2 of 3', () => fail(new Failure('it hung')))).toBe(false);
  await expect(attempt(results, 'peer', () => fail(new TypeError('oops')))).rejects.toThrow('oops');
  expect(results.failures).toEqual([{ subject: 'peer, round 2 of 3', reason: 'it hung' }]);
  expect(results.toText()).toContain('failed: peer, round 2 of 3: it hung');
});
