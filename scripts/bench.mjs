/** `npm run bench -- [names]`: builds, then hands over to the harness in bench/. */
import path from 'node:path';
import { buildAll } from './lib/build.mjs';
import { runAttached } from './lib/exec.mjs';
import { ROOT } from './lib/paths.mjs';
import { runMain } from './lib/progress.mjs';

await runMain(async () => {
  await buildAll();
  return runAttached(process.execPath, [path.join(ROOT, 'bench/run.mjs'), ...process.argv.slice(2)]);
});
