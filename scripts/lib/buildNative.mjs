/** The native core, by CMake: the addon, and what tests it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from './exec.mjs';
import { withLock } from './lock.mjs';
import { ensureDebianPackages } from './packages.mjs';
import { ADDON, BUILD, DIST, nodeBin, ROOT } from './paths.mjs';
import { step } from './progress.mjs';
import { unlessFresh } from './stamp.mjs';

/** What a native build is made from. */
export const NATIVE_INPUTS = ['native', 'CMakeLists.txt'];

const JOBS = String(Math.max(1, os.availableParallelism?.() ?? os.cpus().length));

/**
 * Configures (again only if needed: sources are found by glob, so a new file counts) and builds one target of a CMake
 * tree.
 *
 * @param {string} name of the tree below build/
 * @param {string} target
 * @param {readonly (readonly string[])[]} commands
 */
async function buildTree(name, target, commands) {
  await step(`building ${target} (${name})`, (detail) =>
    withLock(`${path.join(BUILD, name)}.lock`, async () => {
      for (const [command, ...args] of commands) await run(String(command), args, { onLine: detail });
    }),
  );
}

/**
 * What finds faults: the C++ tests and the fuzz targets, from one tree, as they share the core. Line tables are all
 * that a sanitizer's report needs; without optimization the fuzzers would not get far.
 */
const SANITIZED = {
  CMAKE_BUILD_TYPE: 'RelWithDebInfo',
  CMAKE_CXX_FLAGS_RELWITHDEBINFO: '-O1 -g1',
  CMAKE_CXX_COMPILER: 'clang++',
  TSVMM_TESTS: 'ON',
  TSVMM_FUZZ: 'ON',
  TSVMM_SANITIZE: 'address,undefined',
};

/** The same tests, for data races. A sanitizer of threads goes with no other. */
const THREADS = { ...SANITIZED, TSVMM_FUZZ: 'OFF', TSVMM_SANITIZE: 'thread' };

const SANITIZED_TREE = 'sanitized';
const THREADS_TREE = 'threads';
const RELEASE_TREE = 'release';
const CROSS_TREE = 'aarch64';

/**
 * Builds a target by CMake itself.
 *
 * @param {string} name of the tree
 * @param {string} target
 * @param {Readonly<Record<string, string>>} settings
 */
async function buildWith(name, target, settings) {
  const tree = path.join(BUILD, name);
  await buildTree(name, target, [
    ['cmake', '-S', ROOT, '-B', tree, ...Object.entries(settings).map(([key, value]) => `-D${key}=${value}`)],
    ['cmake', '--build', tree, '-j', JOBS, '--target', target],
  ]);
}

/**
 * Builds with the address and undefined behaviour sanitizers.
 *
 * @param {'tsvmm_tests' | 'tsvmm_fuzz'} target
 */
export async function buildSanitized(target) {
  await buildWith(SANITIZED_TREE, target, SANITIZED);
}

/** Builds the C++ tests with the thread sanitizer. */
export async function buildForThreads() {
  await buildWith(THREADS_TREE, 'tsvmm_tests', THREADS);
}

/** The executable of that build. */
export const THREADS_PROGRAM = path.join(BUILD, THREADS_TREE, 'tsvmm_tests');

/**
 * Compiles what of the core belongs to every architecture for another one than this machine's. CMake leaves out the
 * folders of other architectures, so whatever the rest includes from those is not there. Nothing is linked, and no
 * library of that architecture is needed: zlib's and Zstandard's headers are the same for all.
 */
export async function buildForAarch64() {
  const headers = path.join(BUILD, `${CROSS_TREE}-headers`);
  fs.mkdirSync(headers, { recursive: true });
  for (const header of LIBRARY_HEADERS.filter((file) => fs.existsSync(file))) {
    const link = path.join(headers, path.basename(header));
    fs.rmSync(link, { force: true });
    fs.symlinkSync(header, link);
  }
  await buildWith(CROSS_TREE, 'tsvmm_core', {
    CMAKE_SYSTEM_NAME: 'Linux',
    CMAKE_SYSTEM_PROCESSOR: 'aarch64',
    CMAKE_CXX_COMPILER: 'aarch64-linux-gnu-g++',
    CMAKE_BUILD_TYPE: 'Debug',
    CMAKE_CXX_FLAGS_DEBUG: `-O0 -isystem ${headers}`,
    TSVMM_PRECOMPILE: 'ON',
  });
}

/** Where releases of Debian have them: zconf.h is in one of two places. */
const LIBRARY_HEADERS = [
  '/usr/include/zlib.h',
  '/usr/include/zconf.h',
  `/usr/include/${os.machine()}-linux-gnu/zconf.h`,
  '/usr/include/zstd.h',
  '/usr/include/zstd_errors.h',
];

/** An executable of that build. @param {string} name */
export function sanitizedProgram(name) {
  return path.join(BUILD, SANITIZED_TREE, name);
}

/**
 * Builds an addon by cmake-js, which finds the headers of Node-API among the npm packages.
 *
 * @param {string} target
 * @returns {Promise<string>} its folder
 */
async function buildByCmakeJs(target) {
  await ensureDebianPackages(['build']);
  const tree = path.join(BUILD, RELEASE_TREE);
  // Make, whether or not there is Ninja: a tree keeps to what it was configured for.
  const common = ['--directory', ROOT, '--out', tree, '--config', 'Release', '--prefer-make'];
  await buildTree(RELEASE_TREE, target, [
    [nodeBin('cmake-js'), 'configure', ...common],
    [nodeBin('cmake-js'), 'build', ...common, '--target', target, '--parallel', JOBS],
  ]);
  return path.join(tree, 'Release');
}

/** Builds dist/tsvmm.node. */
export async function buildAddon() {
  await unlessFresh('addon', { inputs: NATIVE_INPUTS, outputs: [ADDON] }, async () => {
    const folder = await buildByCmakeJs('tsvmm_addon');
    fs.mkdirSync(DIST, { recursive: true });
    // A process that runs the old one keeps it: never write into a mapped file.
    fs.rmSync(ADDON, { force: true });
    fs.copyFileSync(path.join(folder, 'tsvmm.node'), ADDON);
    await run('strip', ['--strip-unneeded', ADDON]);
  });
}

/**
 * Builds an addon that knows the device of test/native/gadget.cc as well.
 *
 * @param {string} file where it is put
 */
export async function buildGadgetAddon(file) {
  const inputs = [...NATIVE_INPUTS, 'test/native/gadget.cc'];
  await unlessFresh('gadget-addon', { inputs, outputs: [file] }, async () => {
    const folder = await buildByCmakeJs('tsvmm_gadget_addon');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.rmSync(file, { force: true });
    fs.copyFileSync(path.join(folder, 'tsvmm_gadget.node'), file);
  });
}
