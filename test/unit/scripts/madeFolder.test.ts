import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';

const MODULE = path.resolve('scripts/lib/madeFolder.mjs');

/** Fills a folder slowly, and says by whom it was filled. */
const PROGRAM = `
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { madeFolder } from ${JSON.stringify(MODULE)};
const [folder, name] = process.argv.slice(1);
await madeFolder(folder, 'making', async (fresh) => {
  fs.writeFileSync(fresh + '/' + name, '');
  await sleep(300);
  fs.writeFileSync(fresh + '/whole', name);
});
process.stdout.write('\\nhas ' + fs.readFileSync(folder + '/whole', 'utf8'));
`;

test('of several processes that want a folder, one makes it and all have it', async () => {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-made-'));
  onTestFinished(() => fs.rmSync(work, { recursive: true }));
  const folder = path.join(work, 'cache/made');
  const runs = ['one', 'two', 'three'].map((name) =>
    promisify(execFile)(process.execPath, ['--input-type=module', '-e', PROGRAM, folder, name]),
  );
  const said = await Promise.all(runs);
  const maker = fs.readFileSync(path.join(folder, 'whole'), 'utf8');
  expect(said.map(({ stdout }) => stdout.split('\n').at(-1))).toEqual(Array(3).fill(`has ${maker}`));
  expect(fs.readdirSync(folder).sort()).toEqual([maker, 'whole'].sort());
  expect(fs.readdirSync(path.dirname(folder))).toEqual(['made']);
});
