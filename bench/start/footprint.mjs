/** What a VMM with an idle guest and an open control socket costs: memory, threads, wake-ups. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../scripts/lib/progress.mjs';
import { contextSwitches, privateMemory, switchesBetween } from '../lib/processState.mjs';
import { MARKER } from '../lib/timedRun.mjs';
import { BEHAVIOUR } from '../lib/vmms.mjs';
import { ANONYMOUS, BYTES_PER_MIB, PRIVATE_DIRTY, THREADS, WAKE_UPS } from './metrics.mjs';

const MARKER_TIMEOUT_MS = 30_000;
/** After the guest's byte, until whatever a VMM does after start-up is over. */
const SETTLE_MS = 2_000;
const IDLE_MS = 10_000;

/**
 * Starts all VMMs with an idle guest, takes their memory, lets them idle together for ten seconds, and ends them.
 *
 * @param {import('./latency.mjs').Bench} bench
 * @param {readonly import('../lib/vmms.mjs').Vmm[]} vmms
 */
export async function measureFootprint(bench, vmms) {
  /** @type {{vmm: import('../lib/vmms.mjs').Vmm, child: import('node:child_process').ChildProcess}[]} */
  const running = [];
  try {
    for (const vmm of vmms) running.push({ vmm, child: await startIdle(bench, vmm) });
    await sleep(SETTLE_MS);
    for (const { vmm, child } of running) {
      const memory = privateMemory(pidOf(child), vmm.isGuestMemory);
      bench.results.add(ANONYMOUS, vmm.name, memory.anonymous / BYTES_PER_MIB);
      bench.results.add(PRIVATE_DIRTY, vmm.name, memory.privateDirty / BYTES_PER_MIB);
    }
    const before = running.map(({ child }) => contextSwitches(pidOf(child)));
    await sleep(IDLE_MS);
    for (const [index, { vmm, child }] of running.entries()) {
      const after = contextSwitches(pidOf(child));
      const byThread = switchesBetween(before[index] ?? new Map(), after);
      const total = Object.values(byThread).reduce((sum, count) => sum + count, 0);
      bench.results.add(WAKE_UPS, vmm.name, total);
      bench.results.add(THREADS, vmm.name, after.size);
      if (total > 0) bench.results.notes.push(`woke up: ${vmm.name}: ${describe(byThread)}`);
    }
  } finally {
    await Promise.all(running.map(({ child }) => end(child)));
  }
}

/** @param {Record<string, number>} byThread */
function describe(byThread) {
  return Object.entries(byThread)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
}

/**
 * @param {import('./latency.mjs').Bench} bench
 * @param {import('../lib/vmms.mjs').Vmm} vmm
 */
async function startIdle({ programs, folder }, vmm) {
  const own = fs.mkdtempSync(path.join(folder, 'idle-'));
  const guest = { payload: programs.hello, commandLine: BEHAVIOUR.idle, folder: own, api: true };
  const child = spawn(vmm.file, vmm.args(guest), {
    env: { ...process.env, ...vmm.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  await untilOutput(child, vmm.name, MARKER);
  return child;
}

/**
 * Resolves when the program has printed `wanted`; its output is read on, and forgotten, from then.
 *
 * @param {import('node:child_process').ChildProcess} child with pipes
 * @param {string} name
 * @param {string} wanted
 * @returns {Promise<void>}
 */
export function untilOutput(child, name, wanted) {
  return new Promise((resolve, reject) => {
    let output = '';
    let errors = '';
    const failed = (/** @type {string} */ how) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(new Failure(`${name} ${how}: ${errors.trim()}`));
    };
    const timer = setTimeout(() => failed('printed nothing in time'), MARKER_TIMEOUT_MS);
    const hear = (/** @type {Buffer} */ data) => {
      output += data;
      if (!output.includes(wanted)) return;
      clearTimeout(timer);
      child.stdout?.off('data', hear).resume();
      child.off('exit', early);
      resolve();
    };
    const early = () => failed('ended early');
    child.stdout?.on('data', hear);
    child.stderr?.on('data', (data) => {
      errors += data;
    });
    child.on('error', (error) => failed(`cannot be run (${error.message})`));
    child.on('exit', early);
  });
}

/** @param {import('node:child_process').ChildProcess} child */
export function pidOf(child) {
  if (child.pid === undefined) throw new Failure(`${child.spawnfile} is not running`);
  return child.pid;
}

/** @param {import('node:child_process').ChildProcess} child */
export async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}
