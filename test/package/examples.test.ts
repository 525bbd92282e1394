/** The programs in examples/, as a project has them that has installed the library. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TARBALL } from '../../scripts/lib/pack.mjs';
import { nodeBin, ROOT } from '../../scripts/lib/paths.mjs';
import { Consumer, HELLO } from './consumer.ts';

let consumer: Consumer;
let daemon: ChildProcess;

beforeAll(async () => {
  consumer = new Consumer([TARBALL]);
  fs.cpSync(path.join(ROOT, 'examples'), consumer.path('examples'), { recursive: true });
  daemon = await startDaemon(consumer.path('vms'));
});

afterAll(() => {
  daemon?.kill('SIGKILL');
  consumer.remove();
});

/** For the examples that are a client of one. */
async function startDaemon(folder: string): Promise<ChildProcess> {
  fs.mkdirSync(folder);
  const child = spawn(consumer.path('node_modules/.bin/tsvmmd'), ['--dir', folder, '--pool', '0'], {
    env: { ...process.env, TSVMM_RUNTIME: 'node' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise<void>((resolve, reject) => {
    let text = '';
    child.once('exit', () => reject(new Error(text)));
    child.stderr?.setEncoding('utf8').on('data', (more: string) => {
      text += more;
      if (text.includes('serving ')) resolve();
    });
  });
  return child;
}

/** What an example is told beside the kernel. */
const ARGUMENTS: Readonly<Record<string, () => readonly string[]>> = {
  'libvirt.mjs': () => [`tsvmm+unix:///system?socket=${consumer.path('vms/virttsvmmd-sock')}`],
};

/** What each prints with a guest that says hello. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  'console.mjs': /^hello\nthe guest ended: power-off\n$/,
  'fleet.mjs': /^(vm[0-3]: first byte after [\d.]+ ms, 6 bytes, power-off\n){4}$/,
  'libvirt.mjs': /^TSVMM on .*\nlibvirt-example: .*libvirt-example: stopped \(shutdown\)\n$/s,
  'watch.mts': /^booted\n(shutdown\n)?ended: power-off\n$/,
};

test('every example is tried', () => {
  const programs = fs.readdirSync(path.join(ROOT, 'examples')).filter((name) => !name.endsWith('.md'));
  expect(programs.sort()).toEqual(Object.keys(EXPECTED).sort());
});

test.each(Object.entries(EXPECTED))('%s', (name, expected) => {
  const runtime = name.endsWith('.mts') ? nodeBin('bun') : process.execPath;
  const { status, stdout, stderr } = consumer.run(runtime, [
    `examples/${name}`,
    HELLO,
    ...(ARGUMENTS[name]?.() ?? []),
  ]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(expected);
  const usage = consumer.run(runtime, [`examples/${name}`]);
  expect(usage.status).not.toBe(0);
  expect(usage.stderr).toContain(`usage: `);
});

test('watch.mts is understood by the compiler', () => {
  expect(consumer.checkTypes('examples/watch.mts')).toMatchObject({ status: 0, stdout: '' });
});
