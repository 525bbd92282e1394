/** What a start executes. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { guestArgs, ROOT, temporaryFolder } from './support.ts';

/**
 * In the executable's interpreter the first call of a function costs some 7 us and a page of memory, whatever it does.
 * Who needs more of them asks first whether every start does: of devices, memory and NUMA most machines have little.
 */
const MAX_FUNCTIONS = 520;

interface Coverage {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly { readonly ranges: readonly { readonly count: number }[] }[];
  }[];
}

test('a plain VM is started and ended by few functions', async () => {
  const folder = temporaryFolder();
  const program = path.join(ROOT, 'dist/js/tsvmm.js');
  const env = { ...process.env, NODE_V8_COVERAGE: folder };
  await promisify(execFile)(process.execPath, [program, ...guestArgs({ cmdline: 'run=serial' })], { env });
  const called = fs.readdirSync(folder).flatMap((file) => {
    const { result } = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')) as Coverage;
    const ours = result.filter(({ url }) => url.includes('/dist/js/'));
    return ours.flatMap(({ functions }) => functions.filter(({ ranges }) => (ranges[0]?.count ?? 0) > 0));
  });
  // It is the start that was counted.
  expect(called.length).toBeGreaterThan(300);
  expect(called.length).toBeLessThan(MAX_FUNCTIONS);
});
