/** Under which conditions a benchmark ran: what was measured, how often, and what else the host did meanwhile. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { ROOT } from '../../scripts/lib/paths.mjs';

/** Shares of all CPUs above which figures are not to be relied on. */
const BUSY = 0.1;
const STOLEN = 0.02;

/**
 * @typedef {object} Conditions
 * @property {string | undefined} commit of this checkout, with `-dirty` behind it where files differ
 * @property {number} loadBefore the host's load average when the benchmark began
 * @property {number} others the share of all CPUs that other processes and the kernel used meanwhile, 0 to 1
 * @property {number} stolen the share that the host's own hypervisor kept, 0 to 1
 */

/**
 * Begins to observe the host.
 *
 * @returns {() => Conditions} ends it; our processes that still run count as others
 */
export function observeConditions() {
  const loadBefore = os.loadavg()[0] ?? 0;
  const before = readTimes();
  return () => ({ commit: commitOfCheckout(), loadBefore, ...shares(before, readTimes()) });
}

/**
 * CPU time in clock ticks: of all CPUs, and of this process with the children that have ended.
 *
 * @typedef {{busy: number, stolen: number, all: number, own: number}} Times
 */

function readTimes() {
  return timesIn(fs.readFileSync('/proc/stat', 'utf8'), fs.readFileSync('/proc/self/stat', 'utf8'));
}

/**
 * @param {string} host /proc/stat
 * @param {string} self /proc/self/stat
 * @returns {Times}
 */
export function timesIn(host, self) {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, stolen = 0] = host
    .slice(0, host.indexOf('\n'))
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + irq + softirq;
  // proc(5): utime, stime, cutime and cstime are fields 14 to 17, the third is the first behind the name.
  const fields = self.slice(self.lastIndexOf(')') + 2).split(' ');
  const own = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { busy, stolen, all: busy + idle + iowait + stolen, own };
}

/**
 * @param {Times} before
 * @param {Times} after
 */
export function shares(before, after) {
  const all = Math.max(after.all - before.all, 1);
  const others = after.busy - before.busy - (after.own - before.own);
  return { others: Math.max(others, 0) / all, stolen: (after.stolen - before.stolen) / all };
}

/** @returns {string | undefined} undefined where this is no checkout */
function commitOfCheckout() {
  try {
    const args = ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'];
    return execFileSync('git', args, {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return undefined;
  }
}

/**
 * @param {number | undefined} rounds
 * @param {Conditions} conditions
 */
export function conditionsSentence(rounds, { commit, loadBefore, others, stolen }) {
  const parts = [
    ...(rounds === undefined ? [] : [`${rounds} ${rounds === 1 ? 'round' : 'rounds'}`]),
    `commit ${commit ?? 'unknown'}`,
    `load ${loadBefore.toFixed(1)} when it began`,
    `others used ${percent(others)} of the CPUs meanwhile`,
    ...(stolen >= 0.005 ? [`${percent(stolen)} were stolen by the hypervisor below`] : []),
  ];
  return parts.join(', ');
}

/**
 * Why the figures are not to be relied on; undefined where the host was at rest.
 *
 * @param {Conditions} conditions
 */
export function caution({ others, stolen }) {
  if (others < BUSY && stolen < STOLEN) return undefined;
  const why =
    others >= BUSY ? `other processes used ${percent(others)}` : `a hypervisor kept ${percent(stolen)}`;
  return `Caution: the host was busy (${why} of its CPUs). Absolute figures are worse than at rest; look at ratios, and measure again.`;
}

/** @param {number} share */
function percent(share) {
  return `${(share * 100).toFixed(0)} %`;
}
