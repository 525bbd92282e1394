/** How long VMMs take to start the payload guest and to end after it: everybody in turn, round by round. */
import fs from 'node:fs';
import path from 'node:path';
import { Failure } from '../../scripts/lib/progress.mjs';
import { findMarkers, MARKER, timedRun } from '../lib/timedRun.mjs';
import { BEHAVIOUR, MEMORY_MIB } from '../lib/vmms.mjs';
import { CPU_TIME, EXIT, FIRST_BYTE, FIRST_BYTE_API, NANOSECONDS_PER_MS } from './metrics.mjs';

const TIMEOUT_MS = 30_000;

/** Rounds that are run and forgotten: they fill the page cache. */
const WARM_UP_ROUNDS = 2;

/** A slow VMM takes part in one round of this many. */
const SLOW_SHARE = 10;

/**
 * @typedef {object} Bench
 * @property {import('../lib/programs.mjs').Programs} programs
 * @property {import('../lib/results.mjs').Results} results
 * @property {string} folder for temporary files
 */

/**
 * @param {Bench} bench
 * @param {readonly import('../lib/vmms.mjs').Vmm[]} vmms
 * @param {number} rounds
 * @param {(text: string) => void} detail
 */
export async function measureLatency(bench, vmms, rounds, detail) {
  const cases = [
    ...vmms.flatMap((vmm) =>
      [false, true].map((api) => ({ slow: vmm.slow ?? false, run: vmmCase(vmm, api) })),
    ),
    { slow: false, run: floorCase },
    { slow: false, run: bunFloorCase },
    { slow: false, run: nodeFloorCase },
  ];
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    detail(round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < cases.length; turn++) {
      // Another one goes first in each round, so that nobody always runs after the same neighbour.
      const one = cases[(turn + Math.max(round, 0)) % cases.length];
      if (!one || (one.slow && round % SLOW_SHARE !== 0)) continue;
      const record = await one.run(bench);
      if (round >= 0) record();
    }
  }
}

/**
 * @param {import('../lib/vmms.mjs').Vmm} vmm
 * @param {boolean} api
 */
function vmmCase(vmm, api) {
  return async (/** @type {Bench} */ { programs, results, folder }) => {
    const own = fs.mkdtempSync(path.join(folder, 'run-'));
    const guest = { payload: programs.hello, commandLine: BEHAVIOUR.powerOff, folder: own, api };
    const run = await timedRun(programs.spawn, vmm.file, vmm.args(guest), {
      timeoutMs: TIMEOUT_MS,
      ...(vmm.env && { env: vmm.env }),
    });
    fs.rmSync(own, { recursive: true });
    const [marker] = findMarkers(run, MARKER);
    if (!marker || !endedWell(vmm, run.status)) {
      throw new Failure(
        `${vmm.name} did not run the guest (wait status ${run.status}): ${run.stderr.trim()}`,
      );
    }
    return () => {
      results.add(
        api ? FIRST_BYTE_API : FIRST_BYTE,
        vmm.name,
        (marker.first - run.exec) / NANOSECONDS_PER_MS,
      );
      if (api) return;
      results.add(EXIT, vmm.name, (run.exit - marker.last) / NANOSECONDS_PER_MS);
      results.add(CPU_TIME, vmm.name, run.cpuMicroseconds / 1000);
    };
  };
}

/**
 * Peers may take the payload's several ways to power off one after another for a failure, but must not crash.
 *
 * @param {import('../lib/vmms.mjs').Vmm} vmm
 * @param {number} status as of wait(2)
 */
function endedWell(vmm, status) {
  return status === 0 || (!vmm.isOurs && (status & 0x7f) === 0);
}

/** @param {Bench} bench */
async function floorCase({ programs, results }) {
  const run = await timedRun(programs.spawn, programs.floor, [String(MEMORY_MIB)], { timeoutMs: TIMEOUT_MS });
  const [marker] = findMarkers(run, MARKER.slice(0, 1));
  if (!marker) throw new Failure(`the bare KVM calls failed: ${run.stderr.trim()}`);
  const parts = [...run.stderr.matchAll(/^(.*) (\d+)$/gm)];
  return () => {
    results.add(FIRST_BYTE, 'KVM calls alone', (marker.first - run.exec) / NANOSECONDS_PER_MS);
    let total = 0;
    for (const [, name = '', time] of parts) {
      total += Number(time);
      results.add(FLOOR_PARTS, name, Number(time) / NANOSECONDS_PER_MS);
    }
    results.add(FLOOR_PARTS, 'all of them', total / NANOSECONDS_PER_MS);
  };
}

/** @type {import('./metrics.mjs').Metric} */
const FLOOR_PARTS = {
  id: 'kvm-calls',
  title: 'The bare KVM calls, without exec',
  unit: 'ms',
  references: [],
};

/** @param {Bench} bench */
async function bunFloorCase({ programs, results }) {
  const run = await timedRun(programs.spawn, programs.bunFloor, [], { timeoutMs: TIMEOUT_MS });
  const [marker] = findMarkers(run, MARKER);
  if (!marker) throw new Failure(`the empty Bun executable printed nothing: ${run.stderr.trim()}`);
  return () => {
    results.add(FIRST_BYTE, 'empty Bun executable', (marker.first - run.exec) / NANOSECONDS_PER_MS);
    results.add(EXIT, 'empty Bun executable', (run.exit - marker.last) / NANOSECONDS_PER_MS);
  };
}

/** `node -e 0` prints nothing: the whole of its run counts. @param {Bench} bench */
async function nodeFloorCase({ programs, results }) {
  const run = await timedRun(programs.spawn, process.execPath, ['-e', '0'], { timeoutMs: TIMEOUT_MS });
  return () => results.add(FIRST_BYTE, 'node -e 0', (run.exit - run.exec) / NANOSECONDS_PER_MS);
}
