import { expect, test } from 'vitest';
import { attempt } from '../../../bench/boot/turns.mjs';
import { Results } from '../../../bench/lib/results.mjs';
import { parseRecord } from '../../../bench/lib/timedRun.mjs';
import { JOBS, jobLines, markOf } from '../../../bench/linux/jobs.mjs';
import { costOf } from '../../../bench/linux/linux.mjs';
import { Failure } from '../../../scripts/lib/progress.mjs';

const [job] = JOBS;
if (!job) throw new Error('no jobs');

/** What spawn.c prints when the marks of these turns came at these times. */
function recordOf(times: Record<number, number>) {
  const lines = Object.entries(times).map(([turn, time]) => {
    const text = `${markOf(job as (typeof JOBS)[number], Number(turn))}\n`;
    return `data ${time} ${Buffer.from(text).toString('hex')}`;
  });
  return parseRecord(['exec 0', ...lines, 'exit 999 0 0 0'].join('\n'));
}

test("starting fio counts for nothing in a request's cost", () => {
  const fio = 5000;
  const each = 30;
  const turn = (times: number) => fio + times * job.count * each;
  const first = turn(1);
  const second = first + turn(2);
  expect(costOf(job, recordOf({ 1: first, 2: second, 6: second + turn(6) }))).toBeCloseTo(each);
});

test('a turn that never ended gives no cost', () => {
  expect(costOf(job, recordOf({ 1: 10, 2: 20 }))).toBeUndefined();
});

test('the guest gets a line of five words for each job', () => {
  const lines = jobLines().trim().split('\n');
  expect(lines).toHaveLength(JOBS.length);
  for (const line of lines) expect(line.split(' ')).toHaveLength(5);
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
