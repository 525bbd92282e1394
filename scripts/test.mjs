/** `npm test`: every tier, from a fresh clone if need be. Ends with `N passed, N failed`. */
import fs from 'node:fs';
import { buildAll } from './lib/build.mjs';
import { buildForAarch64 } from './lib/buildNative.mjs';
import { clangTidy } from './lib/clangTidy.mjs';
import { checkColumns } from './lib/columns.mjs';
import { run, runAttached } from './lib/exec.mjs';
import { buildFuzzTargets, fuzz, fuzzTargets } from './lib/fuzz.mjs';
import { LabTier } from './lib/labTier.mjs';
import { checkLayers } from './lib/layers.mjs';
import { biome, clangFormat, types } from './lib/lint.mjs';
import { ADDRESSES, runNativeTests, threads } from './lib/nativeTests.mjs';
import { packageTarballs } from './lib/pack.mjs';
import { ensureDebianPackages, ensureNodeModules } from './lib/packages.mjs';
import { nodeBin, ROOT } from './lib/paths.mjs';
import { Failure, runMain, say, step } from './lib/progress.mjs';
import {
  failedTests,
  failure,
  PASSED,
  sum,
  TEST_RESULTS,
  vitestArgs,
  vitestReport,
  vitestResults,
} from './lib/testResults.mjs';
import { supportedNodes, tools } from './lib/tools.mjs';

/** @typedef {import('./lib/testResults.mjs').Results} Results */

/**
 * Something that passes or fails as a whole and tells of its progress itself.
 *
 * @param {string} title
 * @param {() => Promise<unknown>} work
 * @returns {Promise<Results>}
 */
async function attempt(title, work) {
  try {
    await work();
    return PASSED;
  } catch (error) {
    const why = error instanceof Failure ? error.message : String(/** @type {Error} */ (error).stack);
    say(`FAILED: ${title}\n${why}`);
    return failure(title, why);
  }
}

/**
 * @param {string} title
 * @param {(detail: (text: string) => void) => unknown} work
 * @returns {Promise<Results>}
 */
function check(title, work) {
  return attempt(title, () => step(title, work));
}

/**
 * @param {import('./lib/nativeTests.mjs').NativeTier} tier
 * @returns {Promise<Results>}
 */
async function native(tier) {
  const built = await attempt(`building the ${tier.title}`, tier.build);
  return built.failed ? built : sum(...(await runNativeTests(tier)));
}

/** Of each target: enough to notice that something broke; `npm run fuzz` searches longer. */
const FUZZ_SECONDS = 8;

/**
 * Every fuzz target for a few seconds.
 *
 * @returns {Promise<Results>}
 */
async function fuzzTests() {
  const built = await attempt('building the fuzz targets', buildFuzzTargets);
  if (built.failed) return built;
  const results = [];
  for (const target of fuzzTargets()) {
    results.push(await attempt(target, () => fuzz(target, FUZZ_SECONDS)));
  }
  return sum(...results);
}

/**
 * One tier of vitest.
 *
 * @param {string} tier
 * @param {readonly string[]} [args]
 * @returns {Promise<Results>}
 */
async function vitest(tier, args = []) {
  say(`> ${tier} tests`);
  fs.rmSync(vitestReport(tier), { force: true });
  const code = await runAttached(nodeBin('vitest'), [...vitestArgs(tier), ...args], { cwd: ROOT });
  return vitestResults(vitestReport(tier), code);
}

/** The packages and what looks at them. */
async function preparePackages() {
  await Promise.all([packageTarballs(), tools(), supportedNodes()]);
}

/**
 * A tier that was asked for by its name may take longer than one that is a part of all.
 *
 * @type {readonly {name: string, run: (named: boolean) => Promise<Results>}[]}
 */
const TIERS = [
  { name: 'biome', run: () => check('biome', () => biome(false)) },
  { name: 'layers', run: () => check('layers', checkLayers) },
  { name: 'columns', run: () => check('columns', checkColumns) },
  { name: 'clang-format', run: () => check('clang-format', () => clangFormat(false)) },
  { name: 'types', run: () => check('types', types) },
  { name: 'unit', run: () => vitest('unit', ['--coverage']) },
  { name: 'native', run: () => native(ADDRESSES) },
  { name: 'tsan', run: (named) => native(threads(named)) },
  { name: 'fuzz', run: fuzzTests },
  { name: 'clang-tidy', run: () => check('clang-tidy', (detail) => clangTidy(detail, false)) },
  { name: 'aarch64', run: () => attempt('compiling for aarch64', buildForAarch64) },
  { name: 'kvm', run: () => vitest('kvm') },
  {
    name: 'package',
    run: async () => sum(await attempt('packing', preparePackages), await vitest('package')),
  },
];

const LAB = 'lab';

/** @param {readonly {name: string, results: Results, seconds: number}[]} done */
function showTable(done) {
  for (const { name, results, seconds } of done) {
    say(`${name.padEnd(14)}${counts(results)} in ${seconds.toFixed(0)} s`);
  }
}

/** @param {Results} results */
function counts({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
}

await runMain(async () => {
  const names = process.argv.slice(2);
  const known = [...TIERS.map((tier) => tier.name), LAB];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown) throw new Failure(`no tier ${unknown}; there are ${known.join(', ')}`);
  fs.mkdirSync(TEST_RESULTS, { recursive: true });
  await ensureDebianPackages(['build', 'guest', 'lab', 'test']);
  await ensureNodeModules();
  const { output } = await run(process.execPath, ['--version']);
  say(`Node.js ${output.trim()}, ${process.platform} ${process.arch}`);
  /** @type {{name: string, results: Results, seconds: number}[]} */
  const done = [];
  const built = await attempt('build', buildAll);
  const isWanted = (/** @type {string} */ name) => !names.length || names.includes(name);
  const labBegin = Date.now();
  const lab = isWanted(LAB) ? new LabTier(LAB) : undefined;
  for (const tier of TIERS) {
    if (!isWanted(tier.name)) continue;
    const start = Date.now();
    const results = await tier.run(names.length > 0);
    done.push({ name: tier.name, results, seconds: (Date.now() - start) / 1000 });
  }
  if (lab) done.push({ name: LAB, results: await lab.finish(), seconds: (Date.now() - labBegin) / 1000 });
  const total = sum(built, ...done.map((one) => one.results));
  // The end of what was printed is all that some people see of it.
  const failed = failedTests([
    { tier: 'build', failures: built.failures },
    ...done.map(({ name, results }) => ({ tier: name, failures: results.failures })),
  ]);
  if (failed.length > 0) say(['', 'FAILED:', ...failed].join('\n'));
  say('');
  showTable(done);
  process.stdout.write(`${counts(total)}\n`);
  return total.failed === 0 ? 0 : 1;
});
