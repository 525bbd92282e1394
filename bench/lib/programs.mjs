/** What the benchmarks run besides the VMMs: helpers in C, payload guests, and a runtime that does nothing. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { moveInOnePiece } from '../../scripts/lib/onePiece.mjs';
import { BUILD, nodeBin, ROOT } from '../../scripts/lib/paths.mjs';

const OUT = path.join(BUILD, 'bench');

/**
 * @typedef {object} Programs
 * @property {string} spawn times another program (spawn.c)
 * @property {string} floor the bare KVM calls (floor.c)
 * @property {string} hello the payload guest
 * @property {string} bunFloor an executable of the same runtime as ours that prints a line
 */

/** @returns {Promise<Programs>} absolute paths */
export async function buildPrograms() {
  fs.mkdirSync(OUT, { recursive: true });
  const [spawn, floor, bunFloor] = await Promise.all([
    compile('spawn'),
    compile('floor'),
    buildBunFloor(),
    run('make', ['-s', '-C', path.join(ROOT, 'test/guest')]),
  ]);
  return { spawn, floor, bunFloor, hello: path.join(BUILD, 'guest/hello') };
}

/**
 * @typedef {object} IoPrograms
 * @property {string} host helper beside the VMM (host/main.c)
 * @property {string} guest the measuring guest
 */

/** @returns {Promise<IoPrograms>} absolute paths */
export async function buildIoPrograms() {
  fs.mkdirSync(OUT, { recursive: true });
  const sources = path.join(ROOT, 'bench/host');
  const files = fs.readdirSync(sources).map((name) => path.join(sources, name));
  const host = path.join(OUT, 'host');
  const [code] = await Promise.all([
    files.every((file) => isNewer(host, file))
      ? undefined
      : compileFiles(
          files.filter((file) => file.endsWith('.c')),
          host,
        ),
    run('make', ['-s', '-C', path.join(ROOT, 'bench/guest')]),
  ]);
  return { host: code ?? host, guest: path.join(BUILD, 'guest/bench') };
}

/** @returns {Promise<{apiLoad: string, hello: string}>} absolute paths: api/load.c, and the payload guest */
export async function buildApiPrograms() {
  fs.mkdirSync(OUT, { recursive: true });
  const guests = run('make', ['-s', '-C', path.join(ROOT, 'test/guest')]);
  const [apiLoad] = await Promise.all([compile('api/load', 'api-load'), guests]);
  return { apiLoad, hello: path.join(BUILD, 'guest/hello') };
}

/** supervisor/rpc.c, which speaks libvirt's protocol. @returns {Promise<string>} absolute path */
export async function buildRpc() {
  fs.mkdirSync(OUT, { recursive: true });
  return compile('supervisor/rpc', 'rpc');
}

/** spawn.c for a machine that may lack this one's libraries. @returns {Promise<string>} absolute path */
export async function buildStaticSpawn() {
  fs.mkdirSync(OUT, { recursive: true });
  return compile('spawn', 'spawn-static', ['-static']);
}

/** The stock guest's load (linux/load.c). @returns {Promise<string>} absolute path */
export async function buildLoad() {
  fs.mkdirSync(OUT, { recursive: true });
  return compile('linux/load', 'load', ['-static']);
}

/**
 * @param {string} name of the source, without its suffix
 * @param {string} [outputName]
 * @param {readonly string[]} [flags]
 */
async function compile(name, outputName = name, flags = []) {
  const source = path.join(ROOT, 'bench', `${name}.c`);
  const output = path.join(OUT, outputName);
  return isNewer(output, source) ? output : compileFiles([source], output, flags);
}

/**
 * @param {readonly string[]} sources
 * @param {string} output
 * @param {readonly string[]} [flags]
 */
async function compileFiles(sources, output, flags = []) {
  const strict = ['-std=gnu11', '-D_GNU_SOURCE', '-pthread', '-O2', '-Wall', '-Wextra', '-Werror'];
  await run('gcc', [...strict, ...flags, '-o', output, ...sources]);
  return output;
}

async function buildBunFloor() {
  const source = path.join(ROOT, 'bench/printLine.mjs');
  const output = path.join(OUT, 'printLine');
  if (!isNewer(output, source)) {
    const flags = ['--compile', '--bytecode', '--minify', '--no-compile-autoload-dotenv'];
    await run(nodeBin('bun'), [
      'build',
      ...flags,
      '--no-compile-autoload-bunfig',
      `--outfile=${output}.new`,
      source,
    ]);
    moveInOnePiece(`${output}.new`, output);
  }
  return output;
}

/**
 * @param {string} output
 * @param {string} source
 */
function isNewer(output, source) {
  return fs.existsSync(output) && fs.statSync(output).mtimeMs > fs.statSync(source).mtimeMs;
}
