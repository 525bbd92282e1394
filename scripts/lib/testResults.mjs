/** What tests came to, by their runners' reports: how many passed, failed and were skipped; which failed, and why. */
import fs from 'node:fs';
import path from 'node:path';
import { BUILD, ROOT } from './paths.mjs';

/** Where the runners' reports are. */
export const TEST_RESULTS = path.join(BUILD, 'test-results');

/** @param {string} name of a tier, or of a part of one */
export function vitestReport(name) {
  return path.join(TEST_RESULTS, `${name}.json`);
}

/**
 * The arguments of vitest for one tier.
 *
 * @param {string} tier
 * @param {string} [report] the report's name
 */
export function vitestArgs(tier, report = tier) {
  const outputs = ['--reporter=default', '--reporter=json', `--outputFile.json=${vitestReport(report)}`];
  return ['run', '--project', tier, ...outputs];
}

/**
 * @typedef {object} FailedTest
 * @property {string} name
 * @property {string} why the first line of its error
 */

/**
 * @typedef {object} Results
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {readonly FailedTest[]} failures
 */

/**
 * What we read of the report that vitest's JSON reporter writes.
 *
 * @typedef {object} VitestReport
 * @property {number} numPassedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {readonly VitestFile[]} testResults
 *
 * @typedef {object} VitestFile
 * @property {string} name its path
 * @property {string} status
 * @property {string} message why it could not be run
 * @property {readonly VitestTest[]} assertionResults
 *
 * @typedef {object} VitestTest
 * @property {string} status
 * @property {readonly string[]} ancestorTitles
 * @property {string} title
 * @property {readonly string[]} failureMessages
 */

/** @type {Results} */
export const PASSED = { passed: 1, failed: 0, skipped: 0, failures: [] };

/**
 * Something that failed as a whole.
 *
 * @param {string} name
 * @param {string} error
 * @returns {Results}
 */
export function failure(name, error) {
  return { passed: 0, failed: 1, skipped: 0, failures: [{ name, why: firstLine(error) }] };
}

/**
 * @param {readonly Results[]} all
 * @returns {Results}
 */
export function sum(...all) {
  const count = (/** @type {'passed' | 'failed' | 'skipped'} */ what) =>
    all.reduce((total, one) => total + one[what], 0);
  return {
    passed: count('passed'),
    failed: count('failed'),
    skipped: count('skipped'),
    failures: all.flatMap((one) => one.failures),
  };
}

/**
 * @param {string} file the report that vitest wrote
 * @param {number} code that it ended with
 * @returns {Results}
 */
export function vitestResults(file, code) {
  if (!fs.existsSync(file)) return failure('vitest', `it ended with ${code} and left no results`);
  return vitestReportResults(JSON.parse(fs.readFileSync(file, 'utf8')), code);
}

/**
 * @param {VitestReport} report
 * @param {number} code that vitest ended with
 * @returns {Results}
 */
export function vitestReportResults(report, code) {
  const failures = report.testResults.flatMap(failuresOfFile);
  if (code !== 0 && failures.length === 0) {
    failures.push({ name: 'vitest', why: `it ended with ${code}, though no test failed` });
  }
  return {
    passed: report.numPassedTests,
    failed: failures.length,
    skipped: report.numPendingTests + report.numTodoTests,
    failures,
  };
}

/**
 * @param {VitestFile} file
 * @returns {FailedTest[]}
 */
function failuresOfFile({ name, status, message, assertionResults }) {
  const file = path.relative(ROOT, name);
  const failed = assertionResults.filter((test) => test.status === 'failed');
  // A file that cannot be loaded, or whose hooks fail, has an error of its own.
  if (status === 'failed' && failed.length === 0) return [{ name: file, why: firstLine(message) }];
  return failed.map((test) => ({
    name: [file, ...test.ancestorTitles, test.title].join(' > '),
    why: firstLine(test.failureMessages[0] ?? ''),
  }));
}

/**
 * What we read of the report of a GoogleTest program.
 *
 * @typedef {object} GtestReport
 * @property {readonly {testsuite: readonly GtestCase[]}[]} testsuites
 *
 * @typedef {object} GtestCase
 * @property {string} name
 * @property {string} classname
 * @property {string} result COMPLETED if it was run and not skipped
 * @property {readonly {failure: string}[]} [failures]
 */

/**
 * @param {GtestReport} report
 * @param {number} code that the program ended with
 * @returns {Results}
 */
export function gtestResults(report, code) {
  const all = report.testsuites.flatMap((suite) => suite.testsuite);
  const skipped = all.filter(({ result }) => result !== 'COMPLETED').length;
  const failures = all
    .filter((test) => test.failures)
    .map(({ classname, name, failures: errors }) => ({
      name: `${classname}.${name}`,
      why: gtestLine(errors?.[0]?.failure ?? ''),
    }));
  const passed = all.length - failures.length - skipped;
  if (code !== 0 && failures.length === 0) {
    failures.push({ name: 'the C++ tests', why: `they ended with ${code}, though no test failed` });
  }
  return { passed, failed: failures.length, skipped, failures };
}

/**
 * GoogleTest's first line says where, the next ones what.
 *
 * @param {string} failure
 */
function gtestLine(failure) {
  const [place = '', ...lines] = failure.split('\n');
  return `${place.replace(`${ROOT}/`, '')} ${lines.map((line) => line.trim()).join(' ')}`.trim();
}

/** @param {string} text with a terminal's colours, maybe */
function firstLine(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what colours begin with
  const plain = text.replace(/\u001b\[[0-9;]*m/g, '');
  return plain.split('\n').find((line) => line.trim() !== '') ?? 'no reason given';
}

/** A line longer than this is cut: an assertion may have a page of output in its first line. */
const LONGEST_LINE = 300;

/**
 * The names of what failed, each with its reason.
 *
 * @param {readonly {tier: string, failures: readonly FailedTest[]}[]} tiers
 * @returns {string[]} lines
 */
export function failedTests(tiers) {
  return tiers.flatMap(({ tier, failures }) =>
    failures.flatMap(({ name, why }) => [
      `${tier} > ${name}`,
      `    ${why.length > LONGEST_LINE ? `${why.slice(0, LONGEST_LINE)}...` : why}`,
    ]),
  );
}
