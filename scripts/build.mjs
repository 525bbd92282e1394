/** `npm run build`: everything in dist/. */
import { buildAll } from './lib/build.mjs';
import { runMain, say } from './lib/progress.mjs';

await runMain(async () => {
  await buildAll();
  say('dist/ is up to date');
});
