import { expect, test } from 'vitest';
import { Results } from '../../../bench/lib/results.mjs';

const metric = { id: 'time', title: 'Time', unit: 'ms', references: ['peer', 'absent'] };

function sample() {
  const results = new Results('example');
  for (const value of [1, 2, 3]) results.add(metric, 'ours', value);
  for (const value of [4, 4, 5]) results.add(metric, 'peer', value);
  results.skip('absent', 'not given');
  return results;
}

test('ratios are of medians, against the references that were measured', () => {
  const [time] = sample().toJson().metrics;
  expect(time?.subjects[0]).toMatchObject({ subject: 'ours', median: 2, ratios: { peer: 0.5 } });
  expect(time?.subjects[1]).toMatchObject({ subject: 'peer', ratios: {} });
});

test('the text says what was skipped and why', () => {
  const text = sample().toText();
  expect(text).toContain('/ peer');
  expect(text).not.toContain('/ absent');
  expect(text).toContain('skipped: absent: not given');
});
