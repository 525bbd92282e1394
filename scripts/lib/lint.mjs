/** The checks that read the sources: formatting, lint rules, types. */
import { run } from './exec.mjs';
import { nodeBin, ROOT } from './paths.mjs';
import { filesBelow } from './stamp.mjs';

/** @param {RegExp} pattern of the file name */
function nativeFiles(pattern) {
  return filesBelow(['native', 'launcher', 'test/native', 'test/guest', 'scripts/lab', 'bench']).filter(
    (file) => pattern.test(file),
  );
}

/** @param {boolean} write repair instead of complaining */
export async function biome(write) {
  await run(nodeBin('biome'), write ? ['check', '--write', '.'] : ['ci', '--colors=off', '.'], { cwd: ROOT });
}

/** @param {boolean} write repair instead of complaining */
export async function clangFormat(write) {
  const files = nativeFiles(/\.(h|c|cc)$/);
  await run('clang-format', [...(write ? ['-i'] : ['--dry-run', '-Werror']), ...files], { cwd: ROOT });
}

export async function types() {
  await run(nodeBin('tsc'), ['-p', ROOT], { cwd: ROOT });
}
