/** `npm run package`: the tarball that users install. */
import { packageTarball, TARBALL } from './lib/pack.mjs';
import { runMain, say } from './lib/progress.mjs';

await runMain(async () => {
  await packageTarball();
  say(TARBALL);
});
