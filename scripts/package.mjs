/** `npm run package`: the tarballs for npm, and a tarball and a Debian package for distributions. */
import { PACKAGES, packageTarballs } from './lib/pack.mjs';
import { runMain, say } from './lib/progress.mjs';

await runMain(async () => {
  await packageTarballs();
  for (const file of PACKAGES) say(file);
});
