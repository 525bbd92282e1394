/** `npm run bench -- start`: starting, ending and idling, of tsvmm, QEMU and peers, interleaved in one run. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { step } from '../../scripts/lib/progress.mjs';
import { PEERS } from '../lib/arguments.mjs';
import { findCommand } from '../lib/findCommand.mjs';
import { buildPrograms } from '../lib/programs.mjs';
import { requireKvm } from '../lib/requireKvm.mjs';
import { Results } from '../lib/results.mjs';
import { versionOf } from '../lib/timedRun.mjs';
import { cloudHypervisor, firecracker, qemu, tsvmm } from '../lib/vmms.mjs';
import { measureFootprint } from './footprint.mjs';
import { measureLatency } from './latency.mjs';
import { measureLibraryLatency, measureLibraryMemory } from './library.mjs';

const DEFAULT_ROUNDS = 30;
const FOOTPRINT_ROUNDS = 3;

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchStart(options) {
  const results = new Results('start');
  requireKvm();
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  results.rounds = rounds;
  const programs = await step('building the helpers', buildPrograms);
  const vmms = [tsvmm('tsvmm'), tsvmm('tsvmm on Node.js', { TSVMM_RUNTIME: 'node' })];
  vmms.push(...othersOf(options, results));
  for (const vmm of vmms) results.versions[vmm.name] = versionOf(vmm.file);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  try {
    const bench = { programs, results, folder };
    await step(`start and end, ${rounds} rounds`, (detail) => measureLatency(bench, vmms, rounds, detail));
    await step('library calls', () => measureLibraryLatency(bench, rounds));
    await step('memory and wake-ups', async (detail) => {
      for (let round = 0; round < FOOTPRINT_ROUNDS; round++) {
        detail(`round ${round + 1} of ${FOOTPRINT_ROUNDS}`);
        await measureFootprint(bench, vmms);
        await measureLibraryMemory(bench);
      }
    });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  return results;
}

/**
 * QEMU and the peers that are there; for the others, results say why not.
 *
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {Results} results
 */
function othersOf(options, results) {
  const vmms = [];
  const drivers = {
    firecracker,
    'cloud-hypervisor': cloudHypervisor,
    baseline: (/** @type {string} */ program) => ({ ...tsvmm('baseline'), file: program }),
  };
  for (const peer of PEERS) {
    const file = options.peers.get(peer);
    if (options.only && !options.only.includes(peer)) continue;
    if (file) vmms.push(drivers[peer](file));
    else if (peer !== 'baseline') results.skip(peer, `not given (--peer ${peer}=PATH)`);
  }
  if (options.only && !options.only.includes('qemu')) return vmms;
  const file = findCommand('qemu-system-x86_64');
  if (!file) {
    results.skip('qemu', 'qemu-system-x86_64 is not installed');
    return vmms;
  }
  // With a page-table based KVM, firmware runs instruction by instruction in the kernel's emulator: seconds.
  return [...vmms, qemu(file, 'microvm'), qemu(file, 'q35', true)];
}
