import { expect, test } from 'vitest';
import { quantile, summarize } from '../../../bench/lib/statistics.mjs';

test('a summary does not depend on the order of samples', () => {
  const expected = { count: 5, median: 3, q1: 2, q3: 4, min: 1, max: 50 };
  expect(summarize([3, 1, 4, 50, 2])).toEqual(expected);
  expect(summarize([50, 4, 3, 2, 1])).toEqual(expected);
});

test('quantiles lie between neighbours', () => {
  expect(quantile([10, 20], 0.5)).toBe(15);
  expect(quantile([10, 20, 30, 40], 0.25)).toBe(17.5);
  expect(quantile([7], 0.75)).toBe(7);
});

test('there is no summary of nothing', () => {
  expect(() => summarize([])).toThrow('no samples');
});
