/** The programs in examples/, as a project has them that has installed the library. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TARBALL } from '../../scripts/lib/pack.mjs';
import { nodeBin, ROOT } from '../../scripts/lib/paths.mjs';
import { Consumer, HELLO } from './consumer.ts';

let consumer: Consumer;

beforeAll(() => {
  consumer = new Consumer([TARBALL]);
  fs.cpSync(path.join(ROOT, 'examples'), consumer.path('examples'), { recursive: true });
});

afterAll(() => consumer.remove());

/** What each prints with a guest that says hello. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  'console.mjs': /^hello\nthe guest ended: power-off\n$/,
  'fleet.mjs': /^(vm[0-3]: first byte after [\d.]+ ms, 6 bytes, power-off\n){4}$/,
  'watch.mts': /^booted\n(shutdown\n)?ended: power-off\n$/,
};

test('every example is tried', () => {
  const programs = fs.readdirSync(path.join(ROOT, 'examples')).filter((name) => !name.endsWith('.md'));
  expect(programs.sort()).toEqual(Object.keys(EXPECTED).sort());
});

test.each(Object.entries(EXPECTED))('%s', (name, expected) => {
  const runtime = name.endsWith('.mts') ? nodeBin('bun') : process.execPath;
  const { status, stdout, stderr } = consumer.run(runtime, [`examples/${name}`, HELLO]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(expected);
  const usage = consumer.run(runtime, [`examples/${name}`]);
  expect(usage.status).not.toBe(0);
  expect(usage.stderr).toContain(`usage: `);
});

test('watch.mts is understood by the compiler', () => {
  expect(consumer.checkTypes('examples/watch.mts')).toMatchObject({ status: 0, stdout: '' });
});
