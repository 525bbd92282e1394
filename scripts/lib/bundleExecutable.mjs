/** The executable's ES modules, before they are compiled. Imported once there is a Terser. */
import fs from 'node:fs';
import path from 'node:path';
import { minify } from 'terser';
import { run } from './exec.mjs';
import { nodeBin, ROOT } from './paths.mjs';

const ENTRY = 'src/bin/tsvmm.ts';

/**
 * A constant or a small function that has a name of its own is made at every start, so those with one user are put in
 * its place: a fifth of the names, and a fifth of a millisecond. Names that stay are left to Bun, which shortens them.
 *
 * @type {import('terser').MinifyOptions}
 */
const COMPRESSION = {
  module: true,
  ecma: 2020,
  // The other two would make fewer statements of the same number of operations.
  compress: { passes: 2, sequences: false, join_vars: false },
  mangle: false,
};

/**
 * @param {string} folder for the modules; what was there goes
 * @param {readonly string[]} more options of the bundler
 * @returns {Promise<string>} the entry's file
 */
export async function bundleExecutable(folder, more) {
  fs.rmSync(folder, { recursive: true, force: true });
  await run(nodeBin('bun'), [
    'build',
    // What is imported later is read later: a quarter of a millisecond. ES modules in one piece would cost two.
    '--splitting',
    '--format=esm',
    '--target=bun',
    ...more,
    `--outdir=${folder}`,
    path.join(ROOT, ENTRY),
  ]);
  for (const name of fs.readdirSync(folder)) await compress(path.join(folder, name));
  return path.join(folder, `${path.basename(ENTRY, '.ts')}.js`);
}

/** @param {string} file */
async function compress(file) {
  const { code } = await minify(fs.readFileSync(file, 'utf8'), COMPRESSION);
  fs.writeFileSync(file, code ?? '');
}
