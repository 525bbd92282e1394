import { expect, test } from 'vitest';
import { CASES, selectCases } from '../../../bench/io/cases/cases.mjs';
import { IoResults, ratioTo } from '../../../bench/io/ioResults.mjs';

const sample = (rate: number, cpu: number) => ({
  rate,
  operations: 1,
  cpu,
  cpuOutside: cpu / 2,
  idle: 0,
  kicks: 1,
  quantiles: { 500000: 1000 },
});

function measured() {
  const [one] = CASES;
  if (!one) throw new Error('no cases');
  const results = new IoResults('blk');
  for (const [subject, rates] of Object.entries({ tsvmm: [200e3, 300e3, 400e3], qemu: [100e3, 100e3] })) {
    results.addExits(one, subject, { all: 0.25, toUserSpace: 0 }, undefined);
    for (const [round, rate] of rates.entries()) results.add(one, subject, round, sample(rate, 2000));
  }
  results.fail(one, 'firecracker', 'hung');
  return { one, results };
}

test('ratios pair the rounds that both have', () => {
  const { one, results } = measured();
  const entries = results.cases.get(one);
  if (!entries) throw new Error('no entries');
  expect(ratioTo(entries, 'qemu', ({ rate }) => rate)).toEqual({ median: 2.5, min: 2, max: 3 });
  expect(ratioTo(entries, 'tsvmm', ({ rate }) => rate)).toBeUndefined();
});

test('text and JSON tell of results and failures', () => {
  const { one, results } = measured();
  results.skip('cloud-hypervisor', 'not given');
  const text = results.toText();
  expect(text).toContain(`${one.name}: ${one.title}`);
  expect(text).toMatch(/tsvmm +300 +200-400 /);
  expect(text).toMatch(/qemu +100 +100-100 +2 +1 +0 .* 0\.25 .* 2\.50 +2-3 +1/);
  expect(text).toMatch(/firecracker +failed/);
  expect(text).toContain('failed: firecracker: hung');
  expect(text).toContain('skipped: cloud-hypervisor: not given');
  const json = JSON.parse(JSON.stringify(results.toJson()));
  expect(json.cases[0].subjects[1]).toMatchObject({ subject: 'qemu', rateRatio: { median: 2.5 } });
  expect(results.isWarm(one, 'qemu')).toBe(true);
  expect(results.isWarm(one, 'firecracker')).toBe(false);
});

test('cases have names of their own and are found by pattern', () => {
  expect(new Set(CASES.map((one) => one.name)).size).toBe(CASES.length);
  expect(selectCases('blk', [/^direct-.*$/]).every((one) => one.disk?.direct)).toBe(true);
  expect(selectCases('blk', [])).toEqual(CASES.filter((one) => one.benchmark === 'blk'));
});
