/**
 * How long a defined VM takes from the call of its start to its guest's first byte, in turn with a process that is
 * started by itself.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LAUNCHER } from '../../scripts/lib/paths.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { findMarkers, MARKER, timedRun } from '../lib/timedRun.mjs';
import { BEHAVIOUR, MEMORY_MIB } from '../lib/vmms.mjs';
import { START } from './metrics.mjs';

const WARM_UP_ROUNDS = 2;
/** Until a process that was taken from the pool has a successor. */
const REFILL_MS = 400;
const TIMEOUT_MS = 30_000;

/** @typedef {import('./supervisor.mjs').Bench} Bench */

/**
 * @param {Bench} bench
 * @param {{warm: import('./daemon.mjs').Daemon, cold?: import('./daemon.mjs').Daemon}} daemons
 * @param {{rounds: number, busy: number}} options `busy` VMs run beside
 * @param {(text: string) => void} detail
 */
export async function measureStarts(bench, { warm, cold }, { rounds, busy }, detail) {
  const beside = busy === 0 ? '' : `, ${busy} VMs running`;
  const cases = [
    { subject: `warm pool${beside}`, run: () => startOf(bench, warm) },
    ...(cold ? [{ subject: `no pool${beside}`, run: () => startOf(bench, cold) }] : []),
    { subject: `bin/tsvmm by itself${beside}`, run: () => startByItself(bench) },
  ];
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    detail(round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < cases.length; turn++) {
      const one = cases[(turn + Math.max(round, 0)) % cases.length];
      const ms = await one?.run();
      if (one && ms !== undefined && round >= 0) bench.results.add(START, one.subject, ms);
      await sleep(REFILL_MS);
    }
  }
}

/**
 * @param {Bench} bench
 * @param {import('./daemon.mjs').Daemon} daemon
 */
async function startOf({ programs, folder }, daemon) {
  const fifo = path.join(folder, 'serial');
  if (!fs.existsSync(fifo)) execFileSync('mkfifo', [fifo]);
  const reader = new Socket({
    fd: fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK),
    writable: false,
  });
  try {
    await daemon.call('POST', 'vms', {
      name: 'timed',
      config: machine(programs.hello, BEHAVIOUR.idle, fifo),
    });
    await daemon.call('GET', 'ping');
    const late = AbortSignal.timeout(TIMEOUT_MS);
    const begun = performance.now();
    const byte = once(reader, 'data', { signal: late }).then(() => performance.now());
    await daemon.call('POST', 'vms/timed/start');
    return (await byte) - begun;
  } finally {
    reader.destroy();
    await daemon.call('DELETE', 'vms/timed?force=true');
  }
}

/** @param {Bench} bench */
async function startByItself({ programs }) {
  const args = [
    ...['--kernel', programs.hello, '--cmdline', BEHAVIOUR.powerOff, '--memory', `size=${MEMORY_MIB}M`],
    ...['--serial', 'tty', '--console', 'off'],
  ];
  const run = await timedRun(programs.spawn, LAUNCHER, args, { timeoutMs: TIMEOUT_MS });
  const [marker] = findMarkers(run, MARKER);
  if (!marker) throw new Failure(`bin/tsvmm printed nothing: ${run.stderr}`);
  return (marker.first - run.exec) / 1e6;
}

/**
 * @param {string} kernel
 * @param {string} cmdline
 * @param {string} [serial] a file for the guest's output, its log unless given
 */
export function machine(kernel, cmdline, serial) {
  return {
    payload: { kernel, cmdline },
    memory: { size: MEMORY_MIB << 20 },
    console: { mode: 'Off' },
    ...(serial && { serial: { mode: 'File', file: serial } }),
  };
}
