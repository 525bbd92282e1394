/** What comes from the core's threads shares the JavaScript thread. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { ROOT, temporaryFolder } from './support.ts';

test.each([
  ['Node.js', process.execPath],
  ['Bun', path.join(ROOT, 'node_modules/.bin/bun')],
])(
  'a server that is flooded keeps no other part of the core from being heard (%s)',
  async (_name, runtime) => {
    const words = [
      path.join(ROOT, 'test/kvm/turnsProgram.mjs'),
      path.join(ROOT, 'dist/tsvmm.node'),
      temporaryFolder(),
    ];
    const { stdout } = await promisify(execFile)(runtime, words, { timeout: 60_000 });
    expect(JSON.parse(stdout)).toEqual({ duringTheFlood: true });
  },
);
