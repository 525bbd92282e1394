/** `npm run lint`: the quick checks. `npm run format` (or `--write`): repair what can be repaired. */
import { checkLayers } from './lib/layers.mjs';
import { biome, clangFormat, types } from './lib/lint.mjs';
import { ensureNodeModules } from './lib/packages.mjs';
import { runMain, step } from './lib/progress.mjs';

await runMain(async () => {
  const write = process.argv.includes('--write');
  await ensureNodeModules();
  await step('biome', () => biome(write));
  await step('layers', checkLayers);
  await step('clang-format', () => clangFormat(write));
  if (!write) await step('types', types);
});
