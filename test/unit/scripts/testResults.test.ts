import path from 'node:path';
import { expect, test } from 'vitest';
import { partsOf } from '../../../scripts/lib/labTier.mjs';
import { ROOT } from '../../../scripts/lib/paths.mjs';
import {
  failedTests,
  failure,
  gtestResults,
  PASSED,
  sum,
  vitestReportResults,
  vitestResults,
} from '../../../scripts/lib/testResults.mjs';

const passing: typeof failing = { status: 'passed', ancestorTitles: [], title: 'works', failureMessages: [] };
const failing = {
  status: 'failed',
  ancestorTitles: ['a suite'],
  title: 'breaks',
  failureMessages: ['\u001b[31mAssertionError: expected 1 to be 2\u001b[0m\n    at file.ts:3', 'another one'],
};

function vitestFile(name: string, ...assertionResults: (typeof failing)[]) {
  const failed = assertionResults.some(({ status }) => status === 'failed');
  return { name: path.join(ROOT, name), status: failed ? 'failed' : 'passed', message: '', assertionResults };
}

function report(...testResults: (ReturnType<typeof vitestFile> & { message: string })[]) {
  return { numPassedTests: 4, numPendingTests: 1, numTodoTests: 2, testResults };
}

test('tests that failed are named with the first line of their error', () => {
  const files = [
    vitestFile('test/lab/a.test.ts', passing, failing),
    vitestFile('test/lab/b.test.ts', passing),
  ];
  const results = vitestReportResults(report(...files), 1);
  expect(results).toMatchObject({ passed: 4, failed: 1, skipped: 3 });
  expect(failedTests([{ tier: 'lab', failures: results.failures }])).toEqual([
    'lab > test/lab/a.test.ts > a suite > breaks',
    '    AssertionError: expected 1 to be 2',
  ]);
});

test('a file that cannot be loaded is a failure, and so is an error outside all tests', () => {
  const broken = {
    ...vitestFile('test/kvm/c.test.ts'),
    status: 'failed',
    message: '\nno such module\nstack',
  };
  expect(vitestReportResults(report(broken), 1)).toMatchObject({
    failed: 1,
    failures: [{ name: 'test/kvm/c.test.ts', why: 'no such module' }],
  });
  expect(vitestReportResults(report(vitestFile('test/kvm/d.test.ts', passing)), 1)).toMatchObject({
    passed: 4,
    failed: 1,
    failures: [{ why: 'it ended with 1, though no test failed' }],
  });
  expect(vitestReportResults(report(vitestFile('test/kvm/d.test.ts', passing)), 0)).toMatchObject({
    failed: 0,
  });
  expect(vitestResults('/nowhere.json', 128)).toMatchObject({
    failed: 1,
    failures: [{ why: 'it ended with 128 and left no results' }],
  });
});

test('C++ tests that failed are named with what was expected where', () => {
  const testsuite = [
    { name: 'Holds', classname: 'Queue', result: 'COMPLETED' },
    { name: 'Waits', classname: 'Queue', result: 'SKIPPED' },
    {
      name: 'Breaks',
      classname: 'Queue',
      result: 'COMPLETED',
      failures: [
        { failure: `${ROOT}/test/native/queue.cc:12\nExpected equality of these values:\n  1\n  2` },
      ],
    },
  ];
  const results = gtestResults({ testsuites: [{ testsuite }] }, 1);
  expect(results).toMatchObject({ passed: 1, failed: 1, skipped: 1 });
  expect(results.failures).toEqual([
    { name: 'Queue.Breaks', why: 'test/native/queue.cc:12 Expected equality of these values: 1 2' },
  ]);
  // What a sanitizer finds at the end.
  expect(gtestResults({ testsuites: [] }, 23)).toMatchObject({ passed: 0, failed: 1 });
});

test('results are added up, and an endless reason is cut', () => {
  const total = sum(PASSED, PASSED, failure('biome', `${'x'.repeat(5000)}\nmore`));
  expect(total).toMatchObject({ passed: 2, failed: 1, skipped: 0 });
  const lines = failedTests([{ tier: 'biome', failures: total.failures }]);
  expect(lines[0]).toBe('biome > biome');
  expect(lines[1]?.length).toBeLessThan(320);
});

test('parts of a tier take about as long as each other, the longest first', () => {
  const files = [5, 1, 9, 3, 3].map((size) => ({ name: `f${size}`, size }));
  expect(partsOf(files, 2)).toEqual([
    ['f5', 'f3', 'f3'],
    ['f9', 'f1'],
  ]);
  expect(partsOf(files, 9).flat().sort()).toEqual(['f1', 'f3', 'f3', 'f5', 'f9']);
  expect(partsOf(files, 9)).toHaveLength(5);
});
