/** The TypeScript, as a Bun executable and as bundles for Node.js. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { recordBytecodeOrder } from './bytecodeOrder.mjs';
import { declareConfigTypes } from './configTypes.mjs';
import { run } from './exec.mjs';
import { moveInOnePiece } from './onePiece.mjs';
import { BUILD, DIST, EXECUTABLE, nodeBin, ROOT } from './paths.mjs';
import { step } from './progress.mjs';
import { filesBelow, unlessFresh } from './stamp.mjs';

const SOURCES = [
  'src',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'scripts/lib/buildJs.mjs',
  'scripts/lib/bundleExecutable.mjs',
  'scripts/lib/bundleJs.mjs',
  'scripts/lib/lateChunk.mjs',
  'scripts/lib/configTypes.mjs',
  'scripts/lib/tsconfig.types.json',
  'scripts/lib/onePiece.mjs',
  'scripts/lib/alignText.mjs',
];
/** What the program consists of besides, for the commit that it names. */
const NATIVE_SOURCES = ['native', 'launcher', 'CMakeLists.txt', 'scripts/lib/buildNative.mjs'];
const JS = path.join(DIST, 'js');

/** The library's entries: `tsvmm`, and `tsvmm/NAME` for others. */
export const ENTRIES = ['index', 'libvirt'];

const BUNDLES = [
  ...ENTRIES.flatMap((entry) => [
    describe(`src/${entry}.ts`, `${entry}.js`, 'esm'),
    describe(`src/${entry}.ts`, `${entry}.cjs`, 'cjs'),
  ]),
  describe('src/bin/tsvmm.ts', 'tsvmm.js', 'esm'),
];

/**
 * @param {string} entry
 * @param {string} name
 * @param {'esm' | 'cjs'} format
 * @returns {import('./bundleJs.mjs').Bundle}
 */
function describe(entry, name, format) {
  return { entry, name, format, metafile: path.join(BUILD, `bundles/${name}.json`) };
}

/** What esbuild says of each bundle: of which files it consists. */
export const METAFILES = BUNDLES.map(({ metafile }) => metafile);

/**
 * What tells the program its commit: the last one that changed its sources, so that others need no new build. Nothing
 * where there is no repository, as in an unpacked tarball.
 */
function commitDefinition() {
  /** @param {string[]} args */
  const git = (...args) =>
    spawnSync('git', ['-C', ROOT, ...args, '--', ...SOURCES, ...NATIVE_SOURCES], { encoding: 'utf8' });
  const { status, stdout } = git('log', '-1', '--format=%h');
  if (status !== 0 || stdout === '') return undefined;
  const suffix = git('status', '--porcelain').stdout === '' ? '' : '-dirty';
  return `"${stdout.trim()}${suffix}"`;
}

/**
 * Builds dist/tsvmm: the command line in one file that needs nothing installed but the addon beside it, built before.
 */
export async function buildExecutable() {
  const commit = commitDefinition();
  await unlessFresh('executable', { inputs: SOURCES, outputs: [EXECUTABLE], extra: commit ?? '' }, () =>
    step('compiling the executable', async () => {
      const fresh = `${EXECUTABLE}.new`;
      const define = commit ? ['--define', `TSVMM_COMMIT=${commit}`] : [];
      // Not before: it may have been installed just now.
      const { bundleExecutable } = await import('./bundleExecutable.mjs');
      const entry = await bundleExecutable(path.join(BUILD, 'executable'), define);
      await compile(entry, fresh, []);
      const order = recordBytecodeOrder(fresh, BUILD);
      if (order !== undefined) await compile(entry, fresh, [`--bytecode-order=${order}`]);
      moveInOnePiece(fresh, EXECUTABLE);
    }),
  );
}

/** @param {string} entry @param {string} outfile @param {readonly string[]} more */
async function compile(entry, outfile, more) {
  // Without the two autoload options, files in the working directory could change what a VMM does.
  await run(nodeBin('bun'), [
    'build',
    '--compile',
    '--bytecode',
    '--minify',
    '--splitting',
    '--format=esm',
    '--no-compile-autoload-dotenv',
    '--no-compile-autoload-bunfig',
    ...more,
    `--outfile=${outfile}`,
    entry,
  ]);
}

/** Builds dist/js: the library as ESM and CommonJS with its types, and the command line as ESM. */
export async function buildNodeBundles() {
  const types = ENTRIES.flatMap((entry) => [`${entry}.d.ts`, `${entry}.d.cts`]);
  const names = [...types, ...BUNDLES.map(({ name }) => name)];
  const outputs = [...names.map((name) => path.join(JS, name)), ...METAFILES];
  const commit = commitDefinition();
  await unlessFresh('bundles', { inputs: SOURCES, outputs, extra: commit ?? '' }, () =>
    step('bundling for Node.js', async () => {
      fs.rmSync(JS, { recursive: true, force: true });
      for (const folder of [JS, path.join(BUILD, 'bundles')]) fs.mkdirSync(folder, { recursive: true });
      // Not before: it may have been installed just now.
      const { bundle } = await import('./bundleJs.mjs');
      const options = { folder: JS, define: commit ? { TSVMM_COMMIT: commit } : {} };
      await Promise.all([...BUNDLES.map((one) => bundle(one, options)), buildTypes()]);
    }),
  );
}

/** Writes the declarations twice, as types of an ES module and of a CommonJS one. */
async function buildTypes() {
  const types = path.join(JS, 'types');
  await run(nodeBin('tsc'), [
    '-p',
    path.join(ROOT, 'scripts/lib/tsconfig.types.json'),
    '--outDir',
    path.join(types, 'esm'),
  ]);
  await declareConfigTypes(path.join(types, 'esm'));
  for (const file of filesBelow([path.join(types, 'esm')])) {
    // The compiler leaves the sources' own extensions in declarations; consumers have no such files.
    const text = fs.readFileSync(file, 'utf8').replace(/((?:from |import\()'\.[^']*)\.ts'/g, "$1.js'");
    fs.writeFileSync(file, text);
  }
  fs.cpSync(path.join(types, 'esm'), path.join(types, 'cjs'), { recursive: true });
  fs.writeFileSync(path.join(types, 'cjs/package.json'), '{ "type": "commonjs" }\n');
  for (const entry of ENTRIES) {
    fs.writeFileSync(path.join(JS, `${entry}.d.ts`), `export * from './types/esm/${entry}.js';\n`);
    fs.writeFileSync(path.join(JS, `${entry}.d.cts`), `export * from './types/cjs/${entry}.js';\n`);
  }
}
