/** `npm run bench -- supervisor`: many VMs under `tsvmmd`. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { step } from '../../scripts/lib/progress.mjs';
import { buildPrograms } from '../lib/programs.mjs';
import { requireKvm } from '../lib/requireKvm.mjs';
import { Results } from '../lib/results.mjs';
import { quantile } from '../lib/statistics.mjs';
import { BEHAVIOUR } from '../lib/vmms.mjs';
import { Daemon } from './daemon.mjs';
import { forAll, measureFleet } from './fleet.mjs';
import { machine, measureStarts } from './latency.mjs';
import { START } from './metrics.mjs';
import { measureRpc } from './rpc.mjs';

const DEFAULT_ROUNDS = 30;
const DEFAULT_VMS = 500;
const DEFAULT_BUSY = 200;
const HIGH = 0.99;

/**
 * @typedef {object} Bench
 * @property {import('../lib/programs.mjs').Programs} programs
 * @property {Results} results
 * @property {string} folder for temporary files
 */

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchSupervisor(options) {
  const results = new Results('supervisor');
  requireKvm();
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  results.rounds = rounds;
  const programs = await step('building the helpers', buildPrograms);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  const bench = { programs, results, folder };
  /** @type {Daemon[]} */
  const daemons = [];
  const daemon = async (/** @type {string} */ name, /** @type {number} */ pool) => {
    const one = await Daemon.start(path.join(folder, name), pool);
    daemons.push(one);
    return one;
  };
  try {
    const warm = await daemon('warm', 1);
    const cold = await daemon('cold', 0);
    await step(`starts, ${rounds} rounds`, (detail) =>
      measureStarts(bench, { warm, cold }, { rounds, busy: 0 }, detail),
    );
    await step("calls of libvirt's protocol", () => measureRpc(bench, cold));
    const busy = Number(options.set.get('busy') ?? DEFAULT_BUSY);
    await step(`starts beside ${busy} VMs, ${rounds} rounds`, async (detail) => {
      const names = await startMany(bench, cold, busy);
      await measureStarts(bench, { warm }, { rounds, busy }, detail);
      await forAll(names, (name) => cold.call('DELETE', `vms/${name}?force=true`));
    });
    const count = Number(options.set.get('vms') ?? DEFAULT_VMS);
    const fleet = await daemon('fleet', 1);
    await step(`${count} VMs`, (detail) => measureFleet(bench, fleet, count, detail));
    noteHigh(results);
  } finally {
    await Promise.all(daemons.map((one) => one.end()));
    for (const one of daemons) one.killVms();
    fs.rmSync(folder, { recursive: true });
  }
  return results;
}

/**
 * @param {Bench} bench
 * @param {Daemon} daemon
 * @param {number} count
 */
async function startMany({ programs }, daemon, count) {
  const names = Array.from({ length: count }, (_, i) => `beside${i}`);
  const config = machine(programs.hello, BEHAVIOUR.idle);
  await forAll(names, async (name) => {
    await daemon.call('POST', 'vms', { name, config });
    await daemon.call('POST', `vms/${name}/start`);
  });
  return names;
}

/** @param {Results} results */
function noteHigh(results) {
  for (const [subject, samples] of results.samples.get(START) ?? []) {
    const sorted = [...samples].sort((a, b) => a - b);
    results.notes.push(`99th percentile: ${subject}: ${quantile(sorted, HIGH).toFixed(1)} ms`);
  }
}
