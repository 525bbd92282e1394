/**
 * The library in a process that runs already, on Node.js and on Bun: how fast a VM starts, what a further one costs.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DIST, nodeBin, ROOT } from '../../scripts/lib/paths.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { privateMemory } from '../lib/processState.mjs';
import { findMarkers, MARKER, timedRun } from '../lib/timedRun.mjs';
import { isOurGuestMemory, MEMORY_MIB } from '../lib/vmms.mjs';
import { end, pidOf, untilOutput } from './footprint.mjs';
import { BYTES_PER_MIB, FURTHER_VM, LIBRARY_FIRST_BYTE, NANOSECONDS_PER_MS } from './metrics.mjs';

const CALL = 'call\n';
const TIMEOUT_MS = 60_000;
/** The first calls compile and load what later ones use. */
const WARM_UP_CALLS = 3;
const FURTHER_VMS = 9;
const SETTLE_MS = 1_000;

export const HOSTS = [
  { name: 'tsvmm library, Node.js', file: process.execPath, env: {} },
  { name: 'tsvmm library, Bun', file: nodeBin('bun'), env: { BUN_GC_TIMER_DISABLE: '1' } },
];

/**
 * @param {import('../lib/programs.mjs').Programs} programs
 * @param {'latency' | 'memory'} mode
 * @param {number} count
 */
function childArguments(programs, mode, count) {
  const library = path.join(DIST, 'js/index.js');
  const child = path.join(ROOT, 'bench/start/libraryChild.mjs');
  return [child, mode, library, programs.hello, String(MEMORY_MIB), String(count)];
}

/**
 * @param {import('./latency.mjs').Bench} bench
 * @param {number} rounds calls in each process that count
 */
export async function measureLibraryLatency({ programs, results }, rounds) {
  for (const { name, file, env } of HOSTS) {
    const args = childArguments(programs, 'latency', WARM_UP_CALLS + rounds);
    const run = await timedRun(programs.spawn, file, args, { timeoutMs: TIMEOUT_MS, env });
    const calls = findMarkers(run, CALL);
    const guests = findMarkers(run, MARKER);
    if (run.status !== 0 || calls.length !== WARM_UP_CALLS + rounds || guests.length !== calls.length) {
      throw new Failure(
        `${name}: ${guests.length} guests after ${calls.length} calls (wait status ${run.status}): ${run.stderr}`,
      );
    }
    for (const [index, guest] of guests.entries()) {
      const call = calls[index];
      if (!call || index < WARM_UP_CALLS) continue;
      results.add(LIBRARY_FIRST_BYTE, name, (guest.first - call.last) / NANOSECONDS_PER_MS);
    }
  }
}

/** @param {import('./latency.mjs').Bench} bench */
export async function measureLibraryMemory({ programs, results }) {
  for (const { name, file, env } of HOSTS) {
    const child = spawn(file, childArguments(programs, 'memory', FURTHER_VMS), {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    try {
      const one = await memoryAfter(child, name, 'running 1\n');
      const ready = memoryAfter(child, name, `running ${1 + FURTHER_VMS}\n`);
      child.stdin?.write('\n');
      results.add(FURTHER_VM, name, ((await ready) - one) / FURTHER_VMS / BYTES_PER_MIB);
    } finally {
      await end(child);
    }
  }
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {string} name
 * @param {string} line
 * @returns {Promise<number>} bytes
 */
async function memoryAfter(child, name, line) {
  await untilOutput(child, name, line);
  await sleep(SETTLE_MS);
  return privateMemory(pidOf(child), isOurGuestMemory).anonymous;
}
