/** The checks that read the sources: formatting, lint rules, types. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from './exec.mjs';
import { BUILD, nodeBin, ROOT } from './paths.mjs';
import { Failure } from './progress.mjs';
import { digestOf, filesBelow } from './stamp.mjs';

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

/**
 * Runs clang-tidy over native/, a file on each core; a file that passed is not looked at again until it, a header or
 * the rules change.
 *
 * @param {(detail: string) => void} detail
 * @param {boolean} analyze also by symbolic execution, which takes four times as long as the rest
 */
export async function clangTidy(detail, analyze) {
  const checks = analyze ? '' : '-clang-analyzer-*';
  const headers = nativeFiles(/native\/.*\.h$/);
  const common = digestOf([...headers, path.join(ROOT, '.clang-tidy')], checks);
  const stamps = path.join(BUILD, 'stamps/clang-tidy');
  fs.mkdirSync(stamps, { recursive: true });
  const waiting = filesBelow(['native'])
    .filter((file) => file.endsWith('.cc'))
    .map((file) => ({ file, stamp: path.join(stamps, digestOf([file], common)) }))
    .filter(({ stamp }) => !fs.existsSync(stamp));
  const all = waiting.length;
  /** @type {string[]} */
  const complaints = [];
  const args = ['--quiet', '-p', path.join(BUILD, 'release'), `--checks=${checks}`];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      detail(`${all - waiting.length} of ${all}: ${path.relative(ROOT, next.file)}`);
      const { code, stdout } = await run('clang-tidy', [...args, next.file], {
        okToFail: true,
      });
      if (code === 0) fs.writeFileSync(next.stamp, '');
      else complaints.push(stdout);
    }
  };
  await Promise.all(Array.from({ length: os.cpus().length }, worker));
  if (complaints.length) throw new Failure(complaints.join('\n'));
}
