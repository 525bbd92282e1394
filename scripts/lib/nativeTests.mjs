/** The C++ tests, under one sanitizer or another. */
import fs from 'node:fs';
import path from 'node:path';
import { buildForThreads, buildSanitized, sanitizedProgram, THREADS_PROGRAM } from './buildNative.mjs';
import { runAttached } from './exec.mjs';
import { ROOT } from './paths.mjs';
import { say } from './progress.mjs';
import { failure, gtestResults, TEST_RESULTS } from './testResults.mjs';

/** @typedef {import('./testResults.mjs').Results} Results */

/**
 * A build of the C++ tests, and how it is run.
 *
 * @typedef {object} NativeTier
 * @property {string} name of its files
 * @property {string} title
 * @property {() => Promise<unknown>} build
 * @property {string} program
 * @property {Record<string, string>} env
 * @property {readonly string[]} filter what is run, as GoogleTest's patterns; all if empty
 * @property {number} seconds a test that hangs must not take the whole run with it
 */

/** @type {NativeTier} */
export const ADDRESSES = {
  name: 'native',
  title: 'C++ tests, with sanitizers',
  build: () => buildSanitized('tsvmm_tests'),
  program: sanitizedProgram('tsvmm_tests'),
  env: { UBSAN_OPTIONS: 'print_stacktrace=1' },
  filter: [],
  seconds: 600,
};

/**
 * The suites in which several threads meet: what a run of all tiers has time for. `npm test -- tsan` runs all others,
 * too.
 */
const WITH_THREADS = [
  '*Block*',
  '*DeviceKindState*',
  '*DiskRefusals*',
  'Balloon*',
  'Clock*',
  'Cmos*',
  'Console*',
  'ControlThread*',
  'CopiedTransport*',
  'CpuHotplug*',
  'DeviceMemory*',
  'DeviceSet*',
  'DiskLoad*',
  'DiskQueue*',
  'EscapableTerminal*',
  'Event*',
  'GuestMemory*',
  'HostFileProbes*',
  'HostListeningSocket*',
  'Hung*',
  'Iommu*',
  'IrqRouter*',
  'Kvm*',
  'Lost*',
  'Machine*',
  'Memory*',
  'MultiQueue*',
  'Net*',
  'Pci*',
  'Pmem*',
  'Pty*',
  'Qcow2Threads*',
  'RateLimiter*',
  'RecordFifo*',
  'Resumed*',
  'Rng*',
  'Serial*',
  'SlowResize*',
  'Socket*',
  'Stream*',
  'Thread*',
  'Timed*',
  'Timer*',
  'Transport*',
  'Tty*',
  'UnixClient*',
  'Vcpu*',
  'VhostNet*',
  'Vsock*',
  'Watchdog*',
];

/** What the tests' drivers do as guests do it. */
const SUPPRESSIONS = path.join(ROOT, 'test/native/tsan-suppressions.txt');

/** @param {boolean} all also those tests that have one thread only */
export function threads(all) {
  /** @type {NativeTier} */
  const tier = {
    name: 'tsan',
    title: 'C++ tests, with the thread sanitizer',
    build: buildForThreads,
    program: THREADS_PROGRAM,
    env: { TSAN_OPTIONS: `suppressions=${SUPPRESSIONS}:second_deadlock_stack=1` },
    filter: all ? [] : WITH_THREADS,
    // What tries faults at random has one thread and takes ten times as long as without this sanitizer.
    seconds: all ? 3600 : 600,
  };
  return tier;
}

/** Side by side, because many of them wait most of the time. */
const PARTS = 2;

/**
 * In parts that run side by side.
 *
 * @param {NativeTier} tier which has been built
 * @returns {Promise<Results[]>}
 */
export async function runNativeTests(tier) {
  say(`> ${tier.title}`);
  return Promise.all(Array.from({ length: PARTS }, (_, part) => runPart(tier, part)));
}

/**
 * @param {NativeTier} tier
 * @param {number} part
 * @returns {Promise<Results>}
 */
async function runPart(tier, part) {
  const results = path.join(TEST_RESULTS, `${tier.name}-${part}.json`);
  fs.rmSync(results, { force: true });
  const env = { ...tier.env, GTEST_TOTAL_SHARDS: String(PARTS), GTEST_SHARD_INDEX: String(part) };
  const args = ['--gtest_brief=1', `--gtest_output=json:${results}`];
  if (tier.filter.length > 0) args.push(`--gtest_filter=${tier.filter.join(':')}`);
  const code = await runAttached(tier.program, args, { env, timeoutSeconds: tier.seconds });
  if (!fs.existsSync(results)) return failure(`part ${part}`, `did not come to its end: exit code ${code}`);
  return gtestResults(JSON.parse(fs.readFileSync(results, 'utf8')), code);
}
