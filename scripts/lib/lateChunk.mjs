/**
 * A bundle of ES modules for Node.js in two parts: what its entry needs at once, and all that is imported later.
 *
 * Left alone, esbuild splits by which `import()` reach a module, into some fifty files, of which an entry needs half;
 * each takes Node.js 0.3 ms. In one file, Node.js compiles for each process what most never use: 4 ms.
 */
import path from 'node:path';
import { build } from 'esbuild';

const NAMESPACE = 'late';
const ALL = 'late:all';

/** @typedef {import('esbuild').BuildOptions & { absWorkingDir: string, metafile: true }} Options */

/** @param {Options} options with one entry point */
export async function bundleInTwoParts(options) {
  const plugins = [lateAsOne(await lateModules(options))];
  return await build({ ...options, splitting: true, chunkNames: '[name]-[hash]', plugins });
}

/**
 * @param {Options} options
 * @returns {Promise<readonly string[]>} what is imported by `import()`, relative to the working folder
 */
async function lateModules(options) {
  const { metafile } = await build({ ...options, write: false });
  const imports = Object.values(metafile.inputs).flatMap((input) => input.imports);
  const late = imports.filter(({ kind, external }) => kind === 'dynamic-import' && !external);
  return [...new Set(late.map((one) => one.path))].sort();
}

/**
 * Puts a module of its own before each late one, which imports all of them: what each `import()` reaches is the same,
 * and so belongs into one file.
 *
 * @param {readonly string[]} late
 * @returns {import('esbuild').Plugin}
 */
function lateAsOne(late) {
  return {
    name: NAMESPACE,
    setup({ initialOptions, onResolve, onLoad }) {
      const root = initialOptions.absWorkingDir ?? '';
      onResolve({ filter: /^\.{1,2}\// }, ({ kind, path: file, resolveDir }) =>
        kind === 'dynamic-import'
          ? { path: path.relative(root, path.join(resolveDir, file)), namespace: NAMESPACE }
          : undefined,
      );
      onResolve({ filter: new RegExp(`^${ALL}$`) }, () => ({ path: ALL, namespace: NAMESPACE }));
      onLoad({ filter: /./, namespace: NAMESPACE }, ({ path: file }) => ({
        contents:
          file === ALL
            ? late.map((one) => `import './${one}';`).join('\n')
            : `import '${ALL}';\nexport * from './${file}';`,
        resolveDir: root,
      }));
    },
  };
}
