/** What is built from the sources, in an order that fails early. */

import { buildExecutable, buildNodeBundles } from './buildJs.mjs';
import { buildLauncher } from './buildLauncher.mjs';
import { buildAddon } from './buildNative.mjs';
import { ensureNodeModules } from './packages.mjs';

/** Installs what is missing and brings dist/ and bin/ up to date. */
export async function buildAll() {
  await ensureNodeModules();
  await Promise.all([buildAddon().then(buildLauncher), buildNodeBundles()]);
  await buildExecutable();
}
