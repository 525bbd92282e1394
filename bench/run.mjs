/** `npm run bench -- [names]`: runs the benchmarks named, or all of them. */
import { Failure, runMain } from '../scripts/lib/progress.mjs';
import { parseArguments, USAGE } from './lib/arguments.mjs';
import { observeConditions } from './lib/conditions.mjs';
import { writeJson } from './lib/results.mjs';
import { writeHtml } from './report/page.mjs';

/**
 * The benchmarks by name. Each takes the arguments and returns its results.
 *
 * @type {Record<string, (options: import('./lib/arguments.mjs').Arguments) =>
 * Promise<import('./lib/results.mjs').Report>>}
 */
const BENCHMARKS = {
  api: async (options) => (await import('./api/api.mjs')).benchApi(options),
  blk: async (options) => (await import('./io/bench.mjs')).benchIo('blk', options),
  boot: async (options) => (await import('./boot/boot.mjs')).benchBoot(options),
  hotplug: async (options) => (await import('./hotplug/hotplug.mjs')).benchHotplug(options),
  linux: async (options) => (await import('./linux/linux.mjs')).benchLinux(options),
  net: async (options) => (await import('./io/bench.mjs')).benchIo('net', options),
  start: async (options) => (await import('./start/start.mjs')).benchStart(options),
  supervisor: async (options) => (await import('./supervisor/supervisor.mjs')).benchSupervisor(options),
  vsock: async (options) => (await import('./io/bench.mjs')).benchIo('vsock', options),
};

await runMain(async () => {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(USAGE);
    return;
  }
  const names = options.names.length > 0 ? options.names : Object.keys(BENCHMARKS);
  const unknown = names.find((name) => !Object.hasOwn(BENCHMARKS, name));
  if (unknown) {
    throw new Failure(`no benchmark '${unknown}': there are ${Object.keys(BENCHMARKS).join(', ')}`);
  }
  const results = [];
  for (const name of names) {
    const conditions = observeConditions();
    const result = await BENCHMARKS[name]?.(options);
    if (!result) continue;
    if (!options.list) result.conditions = conditions();
    process.stdout.write(`${result.toText()}\n`);
    results.push(result);
    if (options.json) writeJson(options.json, results);
    if (options.html) writeHtml(options.html, results);
  }
});
