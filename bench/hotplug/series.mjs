/** Disks that are added one after the other until the bus is full. */
import { Failure } from '../../scripts/lib/progress.mjs';
import { summarize } from '../lib/statistics.mjs';
import { MEMORY_MIB } from '../lib/vmms.mjs';
import { askHalted } from './halted.mjs';
import { ADD, FEW, FIRST, GROWTH, LAST } from './metrics.mjs';
import { diskRequests } from './requests.mjs';

/** Slots of a bus but the host bridge's. Other devices have some of them. */
const MOST = 31;

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @returns {Promise<() => void>} notes the figures
 */
export async function measureSeries(bench, contender) {
  const { name } = contender;
  const { milliseconds, refusals } = await askHalted(
    bench,
    contender,
    ['--memory', `size=${MEMORY_MIB}M`],
    (folder) => diskRequests(folder, MOST),
  );
  if (milliseconds.length < 2 * FEW) throw new Failure(`${name} refused ${refusals[0]}`);
  return () => note(bench.results, name, milliseconds);
}

/**
 * @param {import('../lib/results.mjs').Results} results
 * @param {string} name
 * @param {readonly number[]} milliseconds
 */
function note(results, name, milliseconds) {
  const first = milliseconds.slice(0, FEW);
  const last = milliseconds.slice(-FEW);
  for (const each of milliseconds) results.add(ADD, name, each);
  for (const each of first) results.add(FIRST, name, each);
  for (const each of last) results.add(LAST, name, each);
  results.add(GROWTH, name, summarize(last).median / summarize(first).median);
}
