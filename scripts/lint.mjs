/**
 * `npm run lint`: the quick checks; with `--deep` all of clang-tidy as well, which takes minutes. `npm run format` (or
 * `--write`): repair what can be repaired.
 */

import { buildAddon } from './lib/buildNative.mjs';
import { clangTidy } from './lib/clangTidy.mjs';
import { checkColumns } from './lib/columns.mjs';
import { checkLayers } from './lib/layers.mjs';
import { biome, clangFormat, types } from './lib/lint.mjs';
import { ensureNodeModules } from './lib/packages.mjs';
import { runMain, step } from './lib/progress.mjs';

await runMain(async () => {
  const write = process.argv.includes('--write');
  await ensureNodeModules();
  await step('biome', () => biome(write));
  await step('layers', checkLayers);
  await step('columns', checkColumns);
  await step('clang-format', () => clangFormat(write));
  if (write) return;
  await step('types', types);
  if (process.argv.includes('--deep')) {
    await buildAddon();
    await step('clang-tidy', (detail) => clangTidy(detail, true));
  }
});
