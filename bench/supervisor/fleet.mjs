/** Hundreds of VMs: started, listed, watched and stopped, with nothing left of them. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../../scripts/lib/progress.mjs';
import { findCommand } from '../lib/findCommand.mjs';
import { contextSwitches, privateMemory, switchesBetween } from '../lib/processState.mjs';
import { BEHAVIOUR } from '../lib/vmms.mjs';
import { machine } from './latency.mjs';
import { FLEET, MEMORY, VIRSH, WAKE_UPS } from './metrics.mjs';

const BYTES_PER_MIB = 1 << 20;
const IDLE_MS = 10_000;
const SETTLE_MS = 3_000;
/** Calls at once. */
const AT_ONCE = 4;
const VIRSH_ROUNDS = 10;
const FEW = 5;

/** @typedef {import('./supervisor.mjs').Bench} Bench */

/**
 * @param {Bench} bench
 * @param {import('./daemon.mjs').Daemon} daemon with nothing in it
 * @param {number} count
 * @param {(text: string) => void} detail
 */
export async function measureFleet({ programs, results }, daemon, count, detail) {
  const virsh = findCommand('virsh');
  if (!virsh) results.skip('virsh', 'virsh is not installed');
  // The pool's process has its connection by then.
  await sleep(SETTLE_MS);
  const descriptorsBefore = daemon.descriptors();
  const names = Array.from({ length: count }, (_, i) => `fleet${i}`);
  const config = machine(programs.hello, BEHAVIOUR.idle);
  /** @type {(what: string, work: (name: string) => Promise<unknown>, of?: string[]) => Promise<void>} */
  const timed = async (what, work, of = names) => {
    detail(what);
    const begun = performance.now();
    await forAll(of, work);
    results.add(FLEET, `${what} (${of.length})`, (performance.now() - begun) / of.length);
  };
  const start = (/** @type {string} */ name) => daemon.call('POST', `vms/${name}/start`);
  await timed('define', (name) => daemon.call('POST', 'vms', { name, config }), names.slice(0, FEW));
  if (virsh) measureVirsh(results, virsh, daemon, FEW);
  const rest = names.slice(FEW);
  await timed('define', (name) => daemon.call('POST', 'vms', { name, config }), rest);
  await timed('start', start);
  await timed(
    'list',
    async () => {
      const running = (await daemon.call('GET', 'vms')).filter(
        (/** @type {any} */ vm) => vm.state === 'running',
      );
      if (running.length !== count) throw new Failure(`${running.length} of ${count} VMs run`);
    },
    names.slice(0, FEW),
  );
  if (virsh) measureVirsh(results, virsh, daemon, count);
  detail('idle');
  daemon.agent.destroy();
  await sleep(SETTLE_MS);
  results.add(MEMORY, `${count} VMs`, privateMemory(daemon.pid, () => false).privateDirty / BYTES_PER_MIB);
  const before = contextSwitches(daemon.pid);
  await sleep(IDLE_MS);
  const byThread = switchesBetween(before, contextSwitches(daemon.pid));
  const total = Object.values(byThread).reduce((sum, each) => sum + each, 0);
  results.add(WAKE_UPS, `${count} VMs`, total);
  if (total > 0)
    results.notes.push(
      `woke up: ${Object.entries(byThread)
        .map(([name, n]) => `${name} ${n}`)
        .join(', ')}`,
    );
  await timed('stop', (name) => daemon.call('POST', `vms/${name}/stop`, { force: true }));
  await timed('remove', (name) => daemon.call('DELETE', `vms/${name}`));
  await sleep(SETTLE_MS);
  reportLeaks(results, daemon, descriptorsBefore);
}

/**
 * @param {import('../lib/results.mjs').Results} results
 * @param {string} virsh
 * @param {import('./daemon.mjs').Daemon} daemon
 * @param {number} count how many VMs there are
 */
function measureVirsh(results, virsh, daemon, count) {
  const uri = `tsvmm+unix:///system?socket=${path.join(daemon.dir, 'virttsvmmd-sock')}`;
  for (let round = 0; round < VIRSH_ROUNDS; round++) {
    const begun = performance.now();
    const said = execFileSync(virsh, ['-c', uri, 'list', '--all', '--name'], { encoding: 'utf8' });
    const ms = performance.now() - begun;
    const listed = said.split('\n').filter((name) => name !== '').length;
    if (listed !== count) throw new Failure(`virsh lists ${listed} of ${count} VMs`);
    results.add(VIRSH, `${count} VMs`, ms);
  }
}

/**
 * What is there that was not before: a failure.
 *
 * @param {import('../lib/results.mjs').Results} results
 * @param {import('./daemon.mjs').Daemon} daemon
 * @param {number} descriptorsBefore
 */
function reportLeaks(results, daemon, descriptorsBefore) {
  const pool = 1;
  const processes = daemon.processes().length - pool;
  if (processes > 0) results.fail('fleet', `${processes} processes are left`);
  const files = fs.readdirSync(path.join(daemon.dir, 'vms'));
  if (files.length > 0) results.fail('fleet', `files are left: ${files.slice(0, 5).join(', ')}`);
  // Connections that are kept for the next call are this benchmark's.
  const kept = AT_ONCE;
  const descriptors = daemon.descriptors() - descriptorsBefore - kept;
  if (descriptors > 0) results.fail('fleet', `${descriptors} descriptors are left`);
}

/**
 * @param {readonly string[]} names
 * @param {(name: string) => Promise<unknown>} work
 */
export async function forAll(names, work) {
  const left = [...names];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let name = left.shift(); name !== undefined; name = left.shift()) await work(name);
    }),
  );
}
