/** `npm run bench -- [names]`: builds, then hands over to the harness in bench/. */
import path from 'node:path';
import { buildAll } from './lib/build.mjs';
import { runAttached } from './lib/exec.mjs';
import { nodeBin, ROOT } from './lib/paths.mjs';
import { runMain } from './lib/progress.mjs';

await runMain(async () => {
  await buildAll();
  return runAttached(nodeBin('bun'), [path.join(ROOT, 'bench/run.ts'), ...process.argv.slice(2)]);
});
