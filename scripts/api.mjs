/**
 * `npm run api`: accepts the library's public face and the REST API as they are now, and writes the library's
 * reference.
 */
import fs from 'node:fs';
import { ACCEPTED_REPORTS, apiReference, apiReport, REFERENCE } from './lib/api.mjs';
import { buildNodeBundles } from './lib/buildJs.mjs';
import { OPENAPI_FILE, SUPERVISOR_OPENAPI_FILE, writeOpenApi } from './lib/openApi.mjs';
import { ensureNodeModules } from './lib/packages.mjs';
import { runMain, say, step } from './lib/progress.mjs';

await runMain(async () => {
  await ensureNodeModules();
  await buildNodeBundles();
  await step('writing down the public declarations', async () => {
    for (const { entry, file } of ACCEPTED_REPORTS) fs.writeFileSync(file, await apiReport(entry));
  });
  await step('writing the reference', apiReference);
  await step('writing the descriptions of the APIs', writeOpenApi);
  const files = [...ACCEPTED_REPORTS.map(({ file }) => file), OPENAPI_FILE, SUPERVISOR_OPENAPI_FILE];
  say([...files, `${REFERENCE}/index.html`].join('\n'));
});
