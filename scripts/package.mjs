/** `npm run package`: the tarballs that users install. */
import { EXECUTABLE_TARBALL, packageTarballs, TARBALL } from './lib/pack.mjs';
import { runMain, say } from './lib/progress.mjs';

await runMain(async () => {
  await packageTarballs();
  for (const file of [TARBALL, EXECUTABLE_TARBALL]) say(file);
});
