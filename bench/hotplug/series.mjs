/** Disks that are added one after the other to a machine whose guest halts, until its bus is full. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { priorityWords } from '../lib/priority.mjs';
import { summarize } from '../lib/statistics.mjs';
import { MARKER } from '../lib/timedRun.mjs';
import { BEHAVIOUR, MEMORY_MIB } from '../lib/vmms.mjs';
import { end, untilOutput } from '../start/footprint.mjs';
import { ADD, FEW, FIRST, GROWTH, LAST } from './metrics.mjs';
import { answersIn, diskRequests, GAP_MS, writeRequests } from './requests.mjs';

/** Slots of a bus but the host bridge's. Other devices have some of them. */
const MOST = 31;

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @returns {Promise<() => void>} notes the figures
 */
export async function measureSeries({ programs, hello, results, folder }, { name, file }) {
  const own = fs.mkdtempSync(path.join(folder, 'series-'));
  const socket = path.join(own, 'api.sock');
  const [program = '', ...words] = [...priorityWords(), file];
  const child = spawn(
    program,
    [
      ...words,
      ...['--api-socket', `path=${socket}`, '--kernel', hello, '--cmdline', BEHAVIOUR.idle],
      ...['--memory', `size=${MEMORY_MIB}M`, '--serial', 'tty', '--console', 'off'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  try {
    await untilOutput(child, name, MARKER);
    const requests = writeRequests(own, diskRequests(own, MOST));
    const ask = [programs.host, 'ask', '--api', socket, '--requests', requests, '--gap', `${GAP_MS}`];
    const [client = '', ...rest] = [...priorityWords(), ...ask];
    const { stdout } = await run(client, rest);
    const { milliseconds, refusals } = answersIn(stdout);
    if (milliseconds.length < 2 * FEW) throw new Failure(`${name} refused ${refusals[0]}`);
    return () => note(results, name, milliseconds);
  } finally {
    await end(child);
    fs.rmSync(own, { recursive: true });
  }
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
