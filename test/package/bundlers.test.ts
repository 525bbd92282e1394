/** Programs into which a bundler has put the library, or which leave it outside, as README.md says. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PLATFORM, TARBALL } from '../../scripts/lib/pack.mjs';
import { nodeBin } from '../../scripts/lib/paths.mjs';
import { tools } from '../../scripts/lib/tools.mjs';
import { Consumer, HELLO_PRINTED, STARTS_VM } from './consumer.ts';

let consumer: Consumer;
let webpack: string;

beforeAll(async () => {
  consumer = new Consumer([TARBALL]);
  consumer.write('main.mjs', `import { VirtualMachine } from 'tsvmm';\n${STARTS_VM}\nmain();\n`);
  webpack = path.join(await tools(), 'node_modules/webpack');
});

afterAll(() => consumer.remove());

/** Builds with webpack, which brings no command of its own. */
function buildWithWebpack(options: string): ReturnType<Consumer['run']> {
  const file = 'webpack.cjs';
  consumer.write(
    file,
    `const webpack = require(${JSON.stringify(webpack)});
const common = { mode: 'production', target: 'node', entry: './main.mjs', optimization: { minimize: false } };
webpack({ ...common, ...${options} }, (error, stats) => {
  if (error || stats.hasErrors() || stats.hasWarnings()) {
    console.error(error ?? stats.toString());
    process.exit(1);
  }
});
`,
  );
  return consumer.run(process.execPath, [file]);
}

function buildWithVite(ssr: string): ReturnType<Consumer['run']> {
  const build =
    "{ ssr: 'main.mjs', outDir: 'vite', emptyOutDir: true, rollupOptions: { output: { entryFileNames: 'out.mjs' } } }";
  consumer.write('vite.config.mjs', `export default { build: ${build}, ssr: ${ssr} };\n`);
  return consumer.run(nodeBin('vite'), ['build', '--logLevel', 'warn']);
}

const esbuild = (...args: string[]) =>
  consumer.run(nodeBin('esbuild'), [
    'main.mjs',
    '--bundle',
    '--platform=node',
    '--log-level=warning',
    ...args,
  ]);
const bun = (...args: string[]) => consumer.run(nodeBin('bun'), ['build', 'main.mjs', ...args]);

/** Where the program comes to lie, and what builds it. */
const BUNDLES: readonly (readonly [string, string, () => ReturnType<Consumer['run']>])[] = [
  ['esbuild', 'out/esm.mjs', () => esbuild('--format=esm', '--outfile=out/esm.mjs')],
  [
    'esbuild, external',
    'out/external.mjs',
    () => esbuild('--format=esm', '--external:tsvmm', '--outfile=out/external.mjs'),
  ],
  [
    'esbuild to CommonJS',
    'out/common.cjs',
    () => esbuild('--format=cjs', '--log-override:empty-import-meta=silent', '--outfile=out/common.cjs'),
  ],
  ['Vite', 'vite/out.mjs', () => buildWithVite('{}')],
  ['Vite with everything in one file', 'vite/out.mjs', () => buildWithVite('{ noExternal: true }')],
  ['webpack', 'dist/main.js', () => buildWithWebpack('{}')],
  ['webpack, external', 'dist/main.js', () => buildWithWebpack("{ externals: { tsvmm: 'commonjs tsvmm' } }")],
  ['bun build for Node.js', 'out/bun.mjs', () => bun('--target=node', '--outfile=out/bun.mjs')],
  [
    'bun build, external',
    'out/bunExternal.mjs',
    () => bun('--target=node', '--external=tsvmm', '--outfile=out/bunExternal.mjs'),
  ],
];

describe.each(BUNDLES)('%s', (_, file, build) => {
  test('makes a program that starts a VM where the package is installed', () => {
    expect(build()).toMatchObject({ status: 0, stderr: '' });
    expect(consumer.run(process.execPath, [file])).toEqual(HELLO_PRINTED);
  });
});

test('bun build --compile makes an executable that starts a VM with the addon beside it', () => {
  expect(bun('--compile', '--outfile=out/program')).toMatchObject({ status: 0 });
  const { status, stderr } = consumer.run(consumer.path('out/program'), []);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringContaining(
      `The addon tsvmm.node was not found beside the executable, in ${consumer.path('out')}/: ` +
        `copy it there from prebuilds/${PLATFORM} of the package tsvmm`,
    ),
  });
  fs.copyFileSync(
    consumer.path(`node_modules/tsvmm/prebuilds/${PLATFORM}/tsvmm.node`),
    consumer.path('out/tsvmm.node'),
  );
  expect(consumer.run(consumer.path('out/program'), [])).toEqual(HELLO_PRINTED);
});

test('a bundle without the package beside it says what to do', () => {
  const alone = new Consumer([]);
  try {
    for (const [, file, build] of BUNDLES.filter(([name]) =>
      /^(esbuild|esbuild to CommonJS|bun build for Node.js)$/.test(name),
    )) {
      expect(build().status).toBe(0);
      fs.copyFileSync(consumer.path(file), alone.path(path.basename(file)));
      const { status, stderr } = alone.run(process.execPath, [path.basename(file)]);
      expect({ status, stderr }).toEqual({
        status: 1,
        stderr: expect.stringContaining(
          'tsvmm has become part of a bundle: tell the bundler that "tsvmm" is external, and install it where the bundle runs',
        ),
      });
    }
  } finally {
    alone.remove();
  }
});
