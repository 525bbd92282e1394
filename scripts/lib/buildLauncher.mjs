/** bin/tsvmm and bin/tsvmmd: what users run, in front of the executable or Node.js. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './exec.mjs';
import { LAUNCHER, ROOT, SUPERVISOR } from './paths.mjs';
import { step } from './progress.mjs';
import { unlessFresh } from './stamp.mjs';

const SOURCE = 'launcher/tsvmm.c';
const SUPERVISOR_SOURCE = 'launcher/tsvmmd.sh';

/** No C library in it: that is what makes it fast. */
const FLAGS = [
  ...['-std=gnu17', '-Os', '-s', '-Wall', '-Wextra', '-Werror'],
  ...['-static', '-no-pie', '-fno-pic', '-nostdlib', '-ffreestanding', '-fno-builtin'],
  // Else loops become calls of memcpy, which is not there.
  ...['-fno-tree-loop-distribute-patterns', '-fno-stack-protector'],
];

export async function buildLauncher() {
  const inputs = [SOURCE, SUPERVISOR_SOURCE, 'scripts/lib/buildLauncher.mjs'];
  await unlessFresh('launcher', { inputs, outputs: [LAUNCHER, SUPERVISOR] }, () =>
    step('compiling the launcher', async () => {
      fs.mkdirSync(path.dirname(LAUNCHER), { recursive: true });
      await run('gcc', [...FLAGS, path.join(ROOT, SOURCE), '-o', `${LAUNCHER}.new`]);
      fs.renameSync(`${LAUNCHER}.new`, LAUNCHER);
      fs.copyFileSync(path.join(ROOT, SUPERVISOR_SOURCE), SUPERVISOR);
      fs.chmodSync(SUPERVISOR, 0o755);
    }),
  );
}
