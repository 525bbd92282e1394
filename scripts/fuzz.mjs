/** `npm run fuzz -- [TARGET [SECONDS]]`: one fuzz target, or all, for longer than `npm test` does. */
import { buildFuzzTargets, fuzz, fuzzTargets } from './lib/fuzz.mjs';
import { ensureDebianPackages } from './lib/packages.mjs';
import { Failure, runMain } from './lib/progress.mjs';

const DEFAULT_SECONDS = 60;

await runMain(async () => {
  const [target, seconds = String(DEFAULT_SECONDS)] = process.argv.slice(2);
  const targets = fuzzTargets();
  if (target !== undefined && !targets.includes(target)) {
    throw new Failure(`no target ${target}; there are ${targets.join(', ')}`);
  }
  if (!/^[1-9]\d*$/.test(seconds)) throw new Failure(`"${seconds}" is not a number of seconds`);
  await ensureDebianPackages(['build', 'test']);
  await buildFuzzTargets();
  for (const one of target === undefined ? targets : [target]) await fuzz(one, Number(seconds));
});
