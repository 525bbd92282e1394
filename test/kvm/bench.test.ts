/** The benchmarks of devices run, each case for an instant, on tsvmm alone: what they measure is not looked at. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { selectCases } from '../../bench/io/cases/cases.mjs';
import { ROOT, temporaryFolder } from './support.ts';

const QUICK = ['--set', 'ms=5', '--set', 'warm=2', '--set', `bytes=${4 << 20}`, '--image-mib', '16'];

test.each(['blk', 'net', 'vsock'] as const)('%s', { timeout: 120_000 }, (benchmark) => {
  const folder = temporaryFolder();
  const json = path.join(folder, 'out.json');
  const html = path.join(folder, 'out.html');
  const args = [benchmark, '--peers', 'none', '--rounds', '1', ...QUICK, '--json', json, '--html', html];
  const ran = spawnSync(process.execPath, ['bench/run.mjs', ...args], { cwd: ROOT, encoding: 'utf8' });
  expect(ran.status, ran.stderr).toBe(0);
  const [report] = JSON.parse(fs.readFileSync(json, 'utf8')).benchmarks;
  const names = selectCases(benchmark, []).map((one) => one.name);
  expect(report.cases.map((one: { name: string }) => one.name)).toEqual(names);
  for (const one of report.cases) {
    for (const { subject, failures, samples } of one.subjects) {
      expect(failures, `${one.name}, ${subject}`).toEqual([]);
      expect(samples[0].rate, `${one.name}, ${subject}`).toBeGreaterThan(0);
    }
  }
  expect(fs.readFileSync(html, 'utf8')).toContain('</html>');
});

test('api', { timeout: 120_000 }, () => {
  const json = path.join(temporaryFolder(), 'out.json');
  const args = ['api', '--peers', 'none', '--rounds', '1', '--set', 'ms=20', '--json', json];
  const ran = spawnSync(process.execPath, ['bench/run.mjs', ...args], { cwd: ROOT, encoding: 'utf8' });
  expect(ran.status, ran.stderr).toBe(0);
  const [report] = JSON.parse(fs.readFileSync(json, 'utf8')).benchmarks;
  expect(report.failures).toEqual([]);
  expect(report.metrics).toHaveLength(44);
  for (const { id, subjects } of report.metrics) {
    for (const { samples } of subjects) expect(samples[0], id).toBeGreaterThan(0);
  }
});

test('hotplug', { timeout: 120_000 }, () => {
  const folder = temporaryFolder();
  const json = path.join(folder, 'out.json');
  const html = path.join(folder, 'out.html');
  const args = ['hotplug', '--peers', 'none', '--rounds', '1', '--json', json, '--html', html];
  const ran = spawnSync(process.execPath, ['bench/run.mjs', ...args], { cwd: ROOT, encoding: 'utf8' });
  expect(ran.status, ran.stderr).toBe(0);
  const [report] = JSON.parse(fs.readFileSync(json, 'utf8')).benchmarks;
  expect(report.skipped).toEqual([]);
  expect(report.metrics.map(({ id }: { id: string }) => id)).toEqual([
    ...['add-disk', 'add-disk-first', 'add-disk-last', 'add-disk-growth', 'resize-vcpus', 'resize-memory'],
    ...['longest-read-alone', 'longest-read-beside', 'add-disk-beside', 'memory-slot'],
  ]);
  for (const { id, subjects } of report.metrics) {
    for (const { samples } of subjects) expect(Math.min(...samples), id).toBeGreaterThan(0);
  }
  // One slot is the bridge's and one the entropy device's.
  expect(report.metrics[0].subjects[0].samples).toHaveLength(30);
  expect(fs.readFileSync(html, 'utf8')).toContain('</html>');
});
