/** `npm test`: every tier, from a fresh clone if need be. Ends with `N passed, N failed`. */
import fs from 'node:fs';
import path from 'node:path';
import { buildAll } from './lib/build.mjs';
import { buildSanitized, sanitizedProgram } from './lib/buildNative.mjs';
import { clangTidy } from './lib/clangTidy.mjs';
import { run, runAttached, runBeside } from './lib/exec.mjs';
import { buildFuzzTargets, fuzz, fuzzTargets } from './lib/fuzz.mjs';
import { checkLayers } from './lib/layers.mjs';
import { biome, clangFormat, types } from './lib/lint.mjs';
import { packageTarballs } from './lib/pack.mjs';
import { ensureDebianPackages, ensureNodeModules } from './lib/packages.mjs';
import { BUILD, nodeBin, ROOT } from './lib/paths.mjs';
import { Failure, runMain, say, step } from './lib/progress.mjs';
import { supportedNodes, tools } from './lib/tools.mjs';

const RESULTS = path.join(BUILD, 'test-results');

/** @typedef {{passed: number, failed: number, skipped: number}} Counts */

/** They take half a minute; a test that hangs must not take the whole run with it. */
const NATIVE_SECONDS = 600;
const NATIVE_PARTS = 2;

/**
 * Something that passes or fails as a whole and tells of its progress itself.
 *
 * @param {string} title
 * @param {() => Promise<unknown>} work
 * @returns {Promise<Counts>}
 */
async function attempt(title, work) {
  try {
    await work();
    return { passed: 1, failed: 0, skipped: 0 };
  } catch (error) {
    say(`FAILED: ${title}\n${error instanceof Failure ? error.message : /** @type {Error} */ (error).stack}`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

/**
 * @param {string} title
 * @param {(detail: (text: string) => void) => unknown} work
 * @returns {Promise<Counts>}
 */
function check(title, work) {
  return attempt(title, () => step(title, work));
}

/**
 * The C++ tests under the address and undefined behaviour sanitizers, in parts that run side by side: many of them wait
 * most of the time.
 *
 * @returns {Promise<Counts>}
 */
async function nativeTests() {
  const built = await attempt('building the C++ tests', () => buildSanitized('tsvmm_tests'));
  if (built.failed) return built;
  say('> C++ tests, with sanitizers');
  const parts = Array.from({ length: NATIVE_PARTS }, (_, part) => nativeTestsPart(part));
  return sum(...(await Promise.all(parts)));
}

/**
 * @param {number} part
 * @returns {Promise<Counts>}
 */
async function nativeTestsPart(part) {
  const results = path.join(RESULTS, `native-${part}.json`);
  fs.rmSync(results, { force: true });
  const env = {
    UBSAN_OPTIONS: 'print_stacktrace=1',
    GTEST_TOTAL_SHARDS: String(NATIVE_PARTS),
    GTEST_SHARD_INDEX: String(part),
  };
  const code = await runAttached(
    sanitizedProgram('tsvmm_tests'),
    ['--gtest_brief=1', `--gtest_output=json:${results}`],
    { env, timeoutSeconds: NATIVE_SECONDS },
  );
  if (!fs.existsSync(results)) {
    say('FAILED: the C++ tests did not come to their end');
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const { tests, failures, testsuites } = JSON.parse(fs.readFileSync(results, 'utf8'));
  /** @type {{result: string}[]} */
  const all = testsuites.flatMap((/** @type {{testsuite: object[]}} */ suite) => suite.testsuite);
  const skipped = all.filter(({ result }) => result !== 'COMPLETED').length;
  const failed = Math.max(failures, code === 0 ? 0 : 1);
  return { passed: tests - failures - skipped, failed, skipped };
}

/** Of each target: enough to notice that something broke; `npm run fuzz` searches longer. */
const FUZZ_SECONDS = 8;

/**
 * Every fuzz target for a few seconds.
 *
 * @returns {Promise<Counts>}
 */
async function fuzzTests() {
  const built = await attempt('building the fuzz targets', buildFuzzTargets);
  if (built.failed) return built;
  const counts = [];
  for (const target of fuzzTargets()) {
    counts.push(await attempt(target, () => fuzz(target, FUZZ_SECONDS)));
  }
  return sum(...counts);
}

/**
 * The arguments of vitest for one tier, whose results go into a file.
 *
 * @param {string} tier
 */
function vitestArgs(tier) {
  const results = ['--reporter=default', '--reporter=json', `--outputFile.json=${resultsOf(tier)}`];
  return ['run', '--project', tier, ...results];
}

/** @param {string} tier */
function resultsOf(tier) {
  return path.join(RESULTS, `${tier}.json`);
}

/**
 * One tier of vitest.
 *
 * @param {string} tier
 * @param {readonly string[]} [args]
 * @returns {Promise<Counts>}
 */
async function vitest(tier, args = []) {
  say(`> ${tier} tests`);
  fs.rmSync(resultsOf(tier), { force: true });
  return vitestCounts(
    tier,
    await runAttached(nodeBin('vitest'), [...vitestArgs(tier), ...args], { cwd: ROOT }),
  );
}

/**
 * @param {string} tier
 * @param {number} code that vitest ended with
 * @returns {Counts}
 */
function vitestCounts(tier, code) {
  if (!fs.existsSync(resultsOf(tier))) return { passed: 0, failed: 1, skipped: 0 };
  const found = JSON.parse(fs.readFileSync(resultsOf(tier), 'utf8'));
  const failed = Math.max(found.numFailedTests, code === 0 ? 0 : 1);
  return { passed: found.numPassedTests, failed, skipped: found.numPendingTests + found.numTodoTests };
}

/**
 * The lab's tests, begun now and waited for later: the emulated host is busy with one processor for as long as all other
 * tiers together are with the other.
 */
function beginLab() {
  say('> lab tests begin, beside the others');
  fs.rmSync(resultsOf(LAB), { force: true });
  const begin = Date.now();
  const lab = runBeside(nodeBin('vitest'), vitestArgs(LAB), { cwd: ROOT });
  return {
    begin,
    counts: async () => {
      say('> lab tests');
      return vitestCounts(LAB, await lab.show());
    },
  };
}

/** The packages and what looks at them. */
async function preparePackages() {
  await Promise.all([packageTarballs(), tools(), supportedNodes()]);
}

/** @type {readonly {name: string, run: () => Promise<Counts>}[]} */
const TIERS = [
  { name: 'biome', run: () => check('biome', () => biome(false)) },
  { name: 'layers', run: () => check('layers', checkLayers) },
  { name: 'clang-format', run: () => check('clang-format', () => clangFormat(false)) },
  { name: 'types', run: () => check('types', types) },
  { name: 'unit', run: () => vitest('unit', ['--coverage']) },
  { name: 'native', run: nativeTests },
  { name: 'fuzz', run: fuzzTests },
  { name: 'clang-tidy', run: () => check('clang-tidy', (detail) => clangTidy(detail, false)) },
  { name: 'kvm', run: () => vitest('kvm') },
  {
    name: 'package',
    run: async () => sum(await attempt('packing', preparePackages), await vitest('package')),
  },
];

const LAB = 'lab';

/** @param {readonly Counts[]} all */
function sum(...all) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const one of all) {
    total.passed += one.passed;
    total.failed += one.failed;
    total.skipped += one.skipped;
  }
  return total;
}

await runMain(async () => {
  const names = process.argv.slice(2);
  const known = [...TIERS.map((tier) => tier.name), LAB];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown) throw new Failure(`no tier ${unknown}; there are ${known.join(', ')}`);
  fs.mkdirSync(RESULTS, { recursive: true });
  await ensureDebianPackages(['build', 'guest', 'lab', 'test']);
  await ensureNodeModules();
  const { output } = await run(process.execPath, ['--version']);
  say(`Node.js ${output.trim()}, ${process.platform} ${process.arch}`);
  /** @type {{name: string, counts: Counts, seconds: number}[]} */
  const done = [];
  const built = await attempt('build', buildAll);
  const isWanted = (/** @type {string} */ name) => !names.length || names.includes(name);
  const lab = isWanted(LAB) ? beginLab() : undefined;
  for (const tier of TIERS) {
    if (!isWanted(tier.name)) continue;
    const start = Date.now();
    const counts = await tier.run();
    done.push({ name: tier.name, counts, seconds: (Date.now() - start) / 1000 });
  }
  if (lab) {
    done.push({ name: LAB, counts: await lab.counts(), seconds: (Date.now() - lab.begin) / 1000 });
  }
  say('');
  for (const { name, counts, seconds } of done) {
    const skipped = counts.skipped ? `, ${counts.skipped} skipped` : '';
    say(
      `${name.padEnd(14)}${counts.passed} passed, ${counts.failed} failed${skipped} in ${seconds.toFixed(0)} s`,
    );
  }
  const total = sum(built, ...done.map((one) => one.counts));
  const skipped = total.skipped ? `, ${total.skipped} skipped` : '';
  process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
  return total.failed === 0 ? 0 : 1;
});
