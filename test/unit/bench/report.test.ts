import { expect, test } from 'vitest';
import { CASES } from '../../../bench/io/cases/cases.mjs';
import { IoResults } from '../../../bench/io/ioResults.mjs';
import { shares, timesIn } from '../../../bench/lib/conditions.mjs';
import { Results } from '../../../bench/lib/results.mjs';
import { reportPage } from '../../../bench/report/page.mjs';
import { logTicks, scale, ticks, widthOf } from '../../../bench/report/svg.mjs';

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
    ...['ratios of rates', 'ratios of rates'],
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

test('a report says how often it measured what, and what else the host did', () => {
  const results = new Results('start');
  results.rounds = 30;
  results.conditions = { commit: 'abc123-dirty', loadBefore: 0.26, others: 0.02, stolen: 0 };
  const sentence =
    '30 rounds, commit abc123-dirty, load 0.3 when it began, others used 2 % of the CPUs meanwhile';
  expect(results.toText()).toContain(`\n${sentence}\n`);
  expect(reportPage([results.toJson()])).toContain(`<p>${sentence}</p>`);
  expect(results.toText()).not.toContain('Caution');
  expect(reportPage([results.toJson()])).not.toContain('Caution');
});

test.each([
  { others: 0.43, stolen: 0, why: 'other processes used 43 %' },
  { others: 0.02, stolen: 0.05, why: 'a hypervisor kept 5 %' },
])('a host that was busy is a caution: $why', ({ others, stolen, why }) => {
  const results = ioResults();
  results.conditions = { commit: undefined, loadBefore: 7, others, stolen };
  const warning = `Caution: the host was busy (${why} of its CPUs).`;
  expect(results.toText()).toContain(warning);
  expect(reportPage([results.toJson()])).toContain(`<p class="caution">${warning}`);
  expect(results.toText()).toContain('commit unknown, load 7.0 when it began');
});

test('what others did is what all CPUs did less what this process and its children did', () => {
  const before = timesIn(
    'cpu  100 1 50 1000 9 2 3 5 40 0\ncpu0 1 1\n',
    `7 (a (b) c) S ${'0 '.repeat(10)}10 5 20 5 9 9`,
  );
  expect(before).toEqual({ busy: 156, stolen: 5, all: 1170, own: 40 });
  const after = timesIn(
    'cpu  160 1 70 1100 9 2 3 25 40 0\n',
    `7 (a (b) c) S ${'0 '.repeat(10)}20 15 50 15 9 9`,
  );
  expect(shares(before, after)).toEqual({ others: 0.1, stolen: 0.1 });
});

test('no label of a plot is cut off, whatever it is called', () => {
  const results = ioResults();
  const [one] = CASES;
  if (!one) throw new Error('no cases');
  results.addExits(one, 'a rather long name of a contender', undefined, undefined);
  const slow = { 500000: 2e6, 999900: 9e11 };
  results.add(one, 'a rather long name of a contender', 0, sample(3e7, slow));
  results.add(one, 'a rather long name of a contender', 1, sample(3e9, slow));
  const metrics = new Results('start');
  const metric = { id: 'x', title: 'x', unit: 'ms', references: [] };
  for (const value of [1, 123_456_789]) metrics.add(metric, 'an executable compiled like ours', value);
  const page = reportPage([results.toJson(), metrics.toJson()]);
  const plots = [...page.matchAll(/<svg viewBox="0 0 (\d+) [\d.]+"[^>]*>(.*?)<\/svg>/gs)];
  expect(plots).toHaveLength(8);
  for (const [, width, markup = ''] of plots) {
    const labels = [...markup.matchAll(/<text x="([-\d.]+)"[^>]*?(?:text-anchor="(\w+)")?>([^<]*)</g)];
    expect(labels.length).toBeGreaterThan(5);
    for (const [, x, anchor = 'start', label = ''] of labels) {
      const left = Number(x) - widthOf(label) * ({ start: 0, middle: 0.5, end: 1 }[anchor] ?? 0);
      expect(left, label).toBeGreaterThanOrEqual(0);
      expect(left + widthOf(label), label).toBeLessThanOrEqual(Number(width));
    }
  }
});
