/** The packed tarballs, installed in an empty folder: what a user gets from the registry. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXECUTABLE_PACKAGE, EXECUTABLE_TARBALL, TARBALL } from '../../scripts/lib/pack.mjs';
import { nodeBin, ROOT } from '../../scripts/lib/paths.mjs';
import { supportedNodes } from '../../scripts/lib/tools.mjs';
import { Consumer, HELLO, HELLO_PRINTED, STARTS_VM } from './consumer.ts';

let consumer: Consumer;
const nodes = await supportedNodes();

beforeAll(() => {
  consumer = new Consumer([TARBALL, EXECUTABLE_TARBALL]);
});

afterAll(() => consumer.remove());

const there = nodes.flatMap((found) => ('node' in found ? [found] : []));
const missing = nodes.flatMap((found) => ('reason' in found ? [found] : []));

test.for(missing)('Node.js $version is not tried', ({ version, reason }, { skip }) => {
  process.stderr.write(`SKIPPED: Node.js ${version} cannot be had: ${reason}\n`);
  skip(reason);
});

describe.each(there)('on Node.js $version', ({ node }) => {
  const imported = `import { VirtualMachine } from 'tsvmm';\n${STARTS_VM}\nawait main();\n`;
  const required = `const { VirtualMachine } = require('tsvmm');\n${STARTS_VM}\nmain();\n`;

  test.each([
    ['imported as an ES module', 'program.mjs', imported],
    ['required as a CommonJS module', 'program.cjs', required],
  ])('the library starts a VM, %s', (_, file, program) => {
    consumer.write(file, program);
    expect(consumer.run(node, [file])).toEqual(HELLO_PRINTED);
  });

  test('the command starts a VM', () => {
    const env = { TSVMM_RUNTIME: 'node', PATH: `${path.dirname(node)}:${process.env.PATH}` };
    expect(startedByCommand(env)).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
  });
});

test('the library starts a VM under Bun', () => {
  consumer.write('bun.mjs', `import { VirtualMachine } from 'tsvmm';\n${STARTS_VM}\nawait main();\n`);
  expect(consumer.run(nodeBin('bun'), ['bun.mjs'])).toEqual(HELLO_PRINTED);
});

function startedByCommand(env: NodeJS.ProcessEnv) {
  const args = ['--kernel', HELLO, '--memory', 'size=64M', '--serial', 'tty', '--console', 'off'];
  return consumer.run(consumer.path('node_modules/.bin/tsvmm'), args, env);
}

describe('the command', () => {
  const NO_NODE = { PATH: '/nonexistent' };

  test('runs the executable, which needs no Node.js, from the package beside its own', () => {
    expect(startedByCommand(NO_NODE)).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
  });

  test('runs the executable from a package within its own', () => {
    const beside = consumer.path(`node_modules/${EXECUTABLE_PACKAGE}`);
    const within = consumer.path(`node_modules/tsvmm/node_modules/${EXECUTABLE_PACKAGE}`);
    fs.mkdirSync(path.dirname(within), { recursive: true });
    fs.renameSync(beside, within);
    try {
      expect(startedByCommand(NO_NODE)).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
    } finally {
      fs.renameSync(within, beside);
    }
  });

  test('takes Node.js where the executable is not installed', () => {
    const beside = consumer.path(`node_modules/${EXECUTABLE_PACKAGE}`);
    fs.renameSync(beside, `${beside}.away`);
    try {
      expect(startedByCommand({})).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
      const { status, stderr } = startedByCommand(NO_NODE);
      expect({ status, stderr }).toEqual({
        status: 127,
        stderr: 'tsvmm: the standalone executable is not there, and no node is in $PATH\n',
      });
    } finally {
      fs.renameSync(`${beside}.away`, beside);
    }
  });
});

describe('types', () => {
  test.each(['mts', 'cts'])('are understood in a .%s file', (extension) => {
    const source = `import { VirtualMachine } from 'tsvmm';
const vm: VirtualMachine = await0(VirtualMachine.create({ kernel: 'x', cpus: 2 }));
vm.on('exit', (exit) => { const reason: string = exit.reason; console.log(reason); });
// @ts-expect-error there is no such option
VirtualMachine.create({ kernels: 'x' });
declare function await0<T>(promise: Promise<T>): T;
`;
    consumer.write(`types.${extension}`, source);
    expect(consumer.checkTypes(`types.${extension}`)).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test("the README's example is understood by the compiler, and runs", () => {
    const readme = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
    const [, example] = readme.match(/```ts\n([\s\S]*?)```/) ?? [];
    consumer.write('example.mts', String(example));
    fs.copyFileSync(HELLO, consumer.path('vmlinuz'));
    consumer.write('initrd.img', 'any bytes will do for this guest');
    consumer.write('root.img', '-'.repeat(1 << 20));
    expect(consumer.checkTypes('example.mts')).toEqual({ status: 0, stdout: '', stderr: '' });
    const printed = 'hello\nthe guest ended: power-off\n';
    expect(consumer.run(nodeBin('bun'), ['example.mts'])).toEqual({ status: 0, stdout: printed, stderr: '' });
  });
});
