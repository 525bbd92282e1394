/** A guest that reads one disk steadily, without and with others being added beside it. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { failureOf, parseRecord, sampleOf } from '../io/record.mjs';
import { MEMORY_MIB } from '../lib/vmms.mjs';
import { ADD_BESIDE, LONGEST_ALONE, LONGEST_BESIDE } from './metrics.mjs';
import { answersIn, diskRequests, expectNone, GAP_MS, writeRequests } from './requests.mjs';

const ADDED = 20;
/** All answers have come by then. */
const MEASURED_MS = ADDED * (GAP_MS + 30);
/** Reads are rare enough for the device's thread to sleep between them, as with most guests. */
const PAUSE_US = 100;
const TIMEOUT_MS = 20_000;
/** Quantiles are in parts in a million. */
const LONGEST = '1000000';

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @param {{path: string, seed: number}} image that is read
 * @returns {Promise<() => void>} notes the figures
 */
export async function measureDelay(bench, contender, image) {
  const alone = await read(bench, contender, image, false);
  const beside = await read(bench, contender, image, true);
  return () => {
    const { results } = bench;
    results.add(LONGEST_ALONE, contender.name, alone.longest);
    results.add(LONGEST_BESIDE, contender.name, beside.longest);
    for (const each of beside.milliseconds) results.add(ADD_BESIDE, contender.name, each);
  };
}

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @param {{path: string, seed: number}} image
 * @param {boolean} adding
 * @returns {Promise<{longest: number, milliseconds: number[]}>} the longest read in microseconds, and how long each
 * disk took
 */
async function read({ programs, folder, options }, { name, file }, image, adding) {
  const own = fs.mkdtempSync(path.join(folder, 'delay-'));
  const socket = path.join(own, 'api.sock');
  const guest = new Map(
    Object.entries({ run: 'blk', depth: 1, pause: PAUSE_US, ms: MEASURED_MS, seed: image.seed }).map(
      ([key, value]) => [key, String(value)],
    ),
  );
  for (const [key, value] of options.set) guest.set(key, value);
  const requests = writeRequests(own, diskRequests(own, ADDED));
  const { stdout } = await run(programs.host, [
    ...['run', '--timeout', `${TIMEOUT_MS}`],
    ...(adding ? ['--api', socket, '--requests', requests, '--gap', `${GAP_MS}`] : []),
    ...['--', file, '--api-socket', `path=${socket}`, '--kernel', programs.guest],
    ...['--cmdline', [...guest].map(([key, value]) => `${key}=${value}`).join(' ')],
    ...['--memory', `size=${MEMORY_MIB}M`, '--serial', 'tty', '--console', 'off'],
    ...['--disk', `path=${image.path},image_type=raw`],
  ]);
  fs.rmSync(own, { recursive: true });
  const record = parseRecord(stdout);
  const { milliseconds, refusals } = answersIn(stdout);
  expectNone(name, refusals);
  const failure =
    failureOf(record) ??
    (adding && milliseconds.length < ADDED ? 'not all disks were added in time' : undefined);
  if (failure) throw new Failure(`${name}: ${failure}`);
  return { longest: (sampleOf(record, 'operations').quantiles[LONGEST] ?? 0) / 1000, milliseconds };
}
