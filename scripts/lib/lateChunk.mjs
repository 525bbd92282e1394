/**
 * Bundles of ES modules for Node.js in parts: what an entry needs at once, what a process with a VM comes to need, and
 * what subcommands do.
 *
 * Left alone, esbuild splits by which `import()` reach a module, into some fifty files, of which an entry needs half;
 * each takes Node.js 0.3 ms. In one file, Node.js compiles for each process what most never use: 4 ms, of the command
 * line 13 ms. Of what is imported later, subcommands are apart: with them, a VM's process would have 4 MiB more. So are
 * streams, which the first VM of a library may have: with the rest, its creation would take 5 ms more.
 */
import path from 'node:path';
import { build } from 'esbuild';

const NAMESPACE = 'late';
/**
 * What subcommands and help need, what the streams of a library's VM are made of, and what a process with a VM comes to
 * need. The first that fits a module has it.
 *
 * @type {readonly (readonly [group: string, modules: RegExp])[]}
 */
const GROUPS = [
  ['late:commands', /^src\/(?:api\/libvirt|cli|supervisor)\/(?!(?:apiTls|reporter)\.ts$)/],
  ['late:streams', /^src\/host\/guestStream\.ts$/],
  ['late:with-vm', /^/],
];

/** @typedef {import('esbuild').BuildOptions & { absWorkingDir: string, metafile: true }} Options */

/** @param {Options} options with one entry point */
export async function bundleInParts(options) {
  const plugins = [inGroups(await lateModules(options))];
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
 * Puts a module of its own before each late one, which imports all of its group: what each `import()` of a group
 * reaches is the same, and so belongs into the same files.
 *
 * @param {readonly string[]} late
 * @returns {import('esbuild').Plugin}
 */
function inGroups(late) {
  /** @param {string} file */
  const groupOf = (file) => GROUPS.find(([, modules]) => modules.test(file))?.[0];
  const groups = new Map(GROUPS.map(([group]) => [group, late.filter((file) => groupOf(file) === group)]));
  return {
    name: NAMESPACE,
    setup({ initialOptions, onResolve, onLoad }) {
      const root = initialOptions.absWorkingDir ?? '';
      onResolve({ filter: /^\.{1,2}\// }, ({ kind, path: file, resolveDir }) =>
        kind === 'dynamic-import'
          ? { path: path.relative(root, path.join(resolveDir, file)), namespace: NAMESPACE }
          : undefined,
      );
      onResolve({ filter: /^late:/ }, ({ path: group }) => ({ path: group, namespace: NAMESPACE }));
      onLoad({ filter: /./, namespace: NAMESPACE }, ({ path: file }) => {
        const group = groups.get(file);
        const contents = group
          ? group.map((one) => `import './${one}';`).join('\n')
          : `import '${groupOf(file)}';\nexport * from './${file}';`;
        return { contents, resolveDir: root };
      });
    },
  };
}
