/** The packed tarball in an empty folder, installed without any script: what a user gets from the registry. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TARBALL } from '../../scripts/lib/pack.mjs';
import { nodeBin, ROOT } from '../../scripts/lib/paths.mjs';

const HELLO = path.join(ROOT, 'build/guest/hello');
let folder: string;

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const options = {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60_000,
  } as const;
  const { status, stdout, stderr } = spawnSync(command, args, options);
  return { status, stdout, stderr };
}

function write(name: string, text: string): void {
  fs.writeFileSync(path.join(folder, name), text);
}

function checkTypes(file: string) {
  return run(nodeBin('tsc'), [
    ...['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'esnext'],
    ...['--typeRoots', path.join(ROOT, 'node_modules/@types'), '--types', 'node', file],
  ]);
}

/** A program that starts a VM and prints what it says and why it ended. */
const PROGRAM = `
async function main() {
  const vm = await VirtualMachine.create({ kernel: ${JSON.stringify(HELLO)}, memory: '64M', serial: 'stream' });
  await vm.boot();
  let text = '';
  for await (const chunk of vm.serial) text += chunk;
  console.log(JSON.stringify({ text, exit: (await vm.exited).reason }));
}
`;

beforeAll(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-package-'));
  spawnSync('make', ['-s', '-C', path.join(ROOT, 'test/guest'), HELLO], { stdio: 'inherit' });
  write('package.json', '{ "name": "consumer", "private": true }\n');
  const installed = run('npm', ['install', '--ignore-scripts', '--prefer-offline', TARBALL]);
  if (installed.status !== 0) throw new Error(installed.stderr);
});

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

test('has no script that runs on installation', () => {
  const { scripts } = JSON.parse(
    fs.readFileSync(path.join(folder, 'node_modules/tsvmm/package.json'), 'utf8'),
  );
  expect(Object.keys(scripts)).not.toContain('install');
  expect(Object.keys(scripts)).not.toContain('preinstall');
  expect(Object.keys(scripts)).not.toContain('postinstall');
  // Without an install script of one's own, npm builds whatever has a binding.gyp.
  expect(fs.existsSync(path.join(folder, 'node_modules/tsvmm/binding.gyp'))).toBe(false);
});

describe('the library starts a VM', () => {
  const expected = `${JSON.stringify({ text: 'hello\n', exit: 'power-off' })}\n`;

  test('imported as an ES module', () => {
    write('esm.mjs', `import { VirtualMachine } from 'tsvmm';\n${PROGRAM}\nawait main();\n`);
    expect(run('node', ['esm.mjs'])).toEqual({ status: 0, stdout: expected, stderr: '' });
  });

  test('required as a CommonJS module', () => {
    write('cjs.cjs', `const { VirtualMachine } = require('tsvmm');\n${PROGRAM}\nmain();\n`);
    expect(run('node', ['cjs.cjs'])).toEqual({ status: 0, stdout: expected, stderr: '' });
  });

  test('under Bun', () => {
    write('bun.mjs', `import { VirtualMachine } from 'tsvmm';\n${PROGRAM}\nawait main();\n`);
    expect(run(nodeBin('bun'), ['bun.mjs'])).toEqual({ status: 0, stdout: expected, stderr: '' });
  });

  test('with the prebuilt addon alone', () => {
    const addon = path.join(folder, 'node_modules/tsvmm/dist/tsvmm.node');
    fs.renameSync(addon, `${addon}.away`);
    try {
      write('prebuilt.mjs', `import { VirtualMachine } from 'tsvmm';\n${PROGRAM}\nawait main();\n`);
      expect(run('node', ['prebuilt.mjs'])).toEqual({ status: 0, stdout: expected, stderr: '' });
    } finally {
      fs.renameSync(`${addon}.away`, addon);
    }
  });
});

test.each(['', 'node'])('the tsvmm command starts a VM (TSVMM_RUNTIME=%s)', (runtime) => {
  const args = ['--kernel', HELLO, '--memory', 'size=64M', '--serial', 'tty', '--console', 'off'];
  const result = run(path.join(folder, 'node_modules/.bin/tsvmm'), args, { TSVMM_RUNTIME: runtime });
  expect(result).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
});

test.each(['mts', 'cts'])('its types are understood in a .%s file', (extension) => {
  const source = `import { VirtualMachine } from 'tsvmm';
const vm: VirtualMachine = await0(VirtualMachine.create({ kernel: 'x', cpus: 2 }));
vm.on('exit', (exit) => { const reason: string = exit.reason; console.log(reason); });
// @ts-expect-error there is no such option
VirtualMachine.create({ kernels: 'x' });
declare function await0<T>(promise: Promise<T>): T;
`;
  write(`types.${extension}`, source);
  expect(checkTypes(`types.${extension}`)).toEqual({ status: 0, stdout: '', stderr: '' });
});

test("the README's example is understood by the compiler, and runs", () => {
  const readme = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
  const [, example] = readme.match(/```ts\n([\s\S]*?)```/) ?? [];
  write('example.mts', String(example));
  fs.copyFileSync(HELLO, path.join(folder, 'vmlinuz'));
  write('initrd.img', 'any bytes will do for this guest');
  expect(checkTypes('example.mts')).toEqual({ status: 0, stdout: '', stderr: '' });
  const printed = 'hello\nthe guest ended: power-off\n';
  expect(run(nodeBin('bun'), ['example.mts'])).toEqual({ status: 0, stdout: printed, stderr: '' });
});
