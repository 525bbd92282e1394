/** `npm run api`: accepts the library's public face as it is now, and writes its reference. */
import fs from 'node:fs';
import { ACCEPTED_REPORT, apiReference, apiReport, REFERENCE } from './lib/api.mjs';
import { buildNodeBundles } from './lib/buildJs.mjs';
import { ensureNodeModules } from './lib/packages.mjs';
import { runMain, say, step } from './lib/progress.mjs';

await runMain(async () => {
  await ensureNodeModules();
  await buildNodeBundles();
  await step('writing down the public declarations', async () => {
    fs.writeFileSync(ACCEPTED_REPORT, await apiReport());
  });
  await step('writing the reference', apiReference);
  say(`${ACCEPTED_REPORT}\n${REFERENCE}/index.html`);
});
