import { expect, test } from 'vitest';
import { CASES } from '../../../bench/io/cases/cases.mjs';
import { IoResults } from '../../../bench/io/ioResults.mjs';
import { Results } from '../../../bench/lib/results.mjs';
import { reportPage } from '../../../bench/report/page.mjs';
import { logTicks, scale, ticks } from '../../../bench/report/svg.mjs';

const sample = (rate: number, quantiles: Record<string, number>) => ({
  rate,
  operations: 1,
  cpu: 3000,
  cpuOutside: 1000,
  idle: 0,
  kicks: 1,
  quantiles,
});

function ioResults() {
  const results = new IoResults('blk');
  const [one, other] = CASES;
  if (!one || !other) throw new Error('no cases');
  for (const [subject, rate] of [
    ['tsvmm', 3e5],
    ['qemu', 2e5],
  ] as const) {
    results.addExits(one, subject, undefined, 'no <tracefs>');
    for (const round of [0, 1]) {
      results.add(one, subject, round, sample(rate, { 10000: 1000, 500000: 2000, 999900: 90_000 }));
    }
  }
  results.addExits(other, 'tsvmm', undefined, undefined);
  results.add(other, 'tsvmm', 0, sample(1e5, {}));
  return results;
}

/** Every tag that opens is closed, in order. */
function expectWellFormed(markup: string) {
  const open: string[] = [];
  for (const [, end, name = '', empty] of markup.matchAll(/<(\/?)([a-z]\w*)[^>]*?(\/?)>/g)) {
    if (['meta', 'br'].includes(name) || empty) continue;
    if (end) expect(open.pop()).toBe(name);
    else open.push(name);
  }
  expect(open).toEqual([]);
}

test('the report stands alone and draws every case', () => {
  const metrics = new Results('start');
  const metric = { id: 'x', title: 'Time & more', unit: 'ms', references: [] };
  for (const value of [1, 2, 3]) metrics.add(metric, 'tsvmm', value);
  metrics.fail('peer', 'hung');
  const page = reportPage([ioResults().toJson(), metrics.toJson()]);
  expectWellFormed(page);
  expect(page).not.toMatch(/<script|<link|https?:|@import|NaN|undefined/);
  const [one, other] = CASES.map((each) => each.name);
  expect([...page.matchAll(/<svg .*?aria-label="(.*?)"/g)].map(([, label]) => label)).toEqual([
    'ratios of rates',
    ...[`rates of ${one}`, `CPU time of ${one}`, `latencies of ${one}`],
    ...[`rates of ${other}`, `CPU time of ${other}`],
    'Time &#38; more',
  ]);
  expect(page).toContain('prefers-color-scheme: dark');
  expect(page).toContain('Time &#38; more');
  expect(page).toContain('no &#60;tracefs&#62;');
  expect(page).toContain('failed: peer: hung');
  expect(page).toContain('qemu: 1.50 (1.50 to 1.50)');
});

test('scales and ticks', () => {
  expect(ticks(450)).toEqual([0, 100, 200, 300, 400, 500]);
  expect(ticks(0.9).at(-1)).toBeGreaterThanOrEqual(0.9);
  expect(logTicks(3, 90)).toEqual([2, 5, 10, 20, 50, 100]);
  expect(scale([1, 100], [0, 200], 'log')(10)).toBeCloseTo(100);
  expect(scale([0, 10], [100, 0])(5)).toBe(50);
});
