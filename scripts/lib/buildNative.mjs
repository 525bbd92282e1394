/** The native addon, by CMake. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from './exec.mjs';
import { withLock } from './lock.mjs';
import { ensureDebianPackages } from './packages.mjs';
import { ADDON, BUILD, DIST, ROOT } from './paths.mjs';
import { Failure, step } from './progress.mjs';
import { filesBelow, unlessFresh } from './stamp.mjs';

/** What a native build is made from. */
export const NATIVE_INPUTS = ['native', 'CMakeLists.txt'];

const JOBS = String(Math.max(1, os.availableParallelism?.() ?? os.cpus().length));

/**
 * Configures (again only if needed: sources are found by glob, so a new file counts) and builds one CMake tree.
 *
 * @param {string} name of the tree below build/
 * @param {readonly string[]} targets
 * @param {Record<string, string>} variables
 */
async function cmakeBuild(name, targets, variables) {
  const tree = path.join(BUILD, name);
  const settings = Object.entries(variables).map(([key, value]) => `-D${key}=${value}`);
  await step(`building ${targets.join(', ')} (${name})`, (detail) =>
    withLock(`${tree}.lock`, async () => {
      await run('cmake', ['-S', ROOT, '-B', tree, ...settings], { onLine: detail });
      await run('cmake', ['--build', tree, '-j', JOBS, '--target', ...targets], { onLine: detail });
    }),
  );
  return tree;
}

/**
 * What finds faults: the C++ tests and the fuzz targets, from one tree, as they share the core. Line tables are all that
 * a sanitizer's report needs; without optimization the fuzzers would not get far.
 */
const SANITIZED = {
  CMAKE_BUILD_TYPE: 'RelWithDebInfo',
  CMAKE_CXX_FLAGS_RELWITHDEBINFO: '-O1 -g1',
  CMAKE_CXX_COMPILER: 'clang++',
  TSVMM_ADDON: 'OFF',
  TSVMM_TESTS: 'ON',
  TSVMM_FUZZ: 'ON',
  TSVMM_SANITIZE: 'address,undefined',
};

const SANITIZED_TREE = 'sanitized';

/**
 * Builds with the address and undefined behaviour sanitizers.
 *
 * @param {'tsvmm_tests' | 'tsvmm_fuzz'} target
 */
export async function buildSanitized(target) {
  await cmakeBuild(SANITIZED_TREE, [target], SANITIZED);
}

/** An executable of that build. @param {string} name */
export function sanitizedProgram(name) {
  return path.join(BUILD, SANITIZED_TREE, name);
}

/** Builds dist/tsvmm.node. */
export async function buildAddon() {
  await unlessFresh('addon', { inputs: NATIVE_INPUTS, outputs: [ADDON] }, async () => {
    await ensureDebianPackages(['build']);
    const tree = await cmakeBuild('release', ['tsvmm_addon'], { CMAKE_BUILD_TYPE: 'Release' });
    const built = filesBelow([tree]).find((file) => path.basename(file) === 'tsvmm.node');
    if (!built) throw new Failure(`the native build left no tsvmm.node below ${tree}`);
    fs.mkdirSync(DIST, { recursive: true });
    // A process that runs the old one keeps it: never write into a mapped file.
    fs.rmSync(ADDON, { force: true });
    fs.copyFileSync(built, ADDON);
    await run('strip', ['--strip-unneeded', ADDON]);
  });
}
