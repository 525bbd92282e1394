import { expect, test } from 'vitest';
import { findMarkers, parseRecord } from '../../../bench/lib/timedRun.mjs';

const hex = (text: string) => Buffer.from(text).toString('hex');

const record = [
  'exec 1000',
  `data 2000 ${hex('log line\nhe')}`,
  `data 2500 ${hex('llo')}`,
  `data 2600 ${hex('\nmore\nhello\n')}`,
  'exit 9000 256 300 40',
  '',
].join('\n');

test('a record gives times, status and processor time', () => {
  const run = parseRecord(record);
  expect(run).toMatchObject({ exec: 1000, exit: 9000, status: 256, cpuMicroseconds: 340 });
  expect(run.chunks.map((chunk) => chunk.time)).toEqual([2000, 2500, 2600]);
});

test('a marker has the times of the pieces that its first and last bytes came in', () => {
  expect(findMarkers(parseRecord(record), 'hello\n')).toEqual([
    { first: 2000, last: 2600 },
    { first: 2600, last: 2600 },
  ]);
  expect(findMarkers(parseRecord(record), 'goodbye')).toEqual([]);
});
