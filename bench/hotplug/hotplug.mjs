/** `npm run bench -- hotplug`: devices that come to a machine that runs, and what that costs the others. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { exitOnSignals, step } from '../../scripts/lib/progress.mjs';
import { Images } from '../io/images.mjs';
import { buildApiPrograms, buildIoPrograms } from '../lib/programs.mjs';
import { requireKvm } from '../lib/requireKvm.mjs';
import { Results } from '../lib/results.mjs';
import { versionOf } from '../lib/timedRun.mjs';
import { cloudHypervisor, tsvmm } from '../lib/vmms.mjs';
import { measureDelay } from './delay.mjs';
import { SLOT } from './metrics.mjs';
import { measureResize } from './resize.mjs';
import { measureSeries } from './series.mjs';

const DEFAULT_ROUNDS = 10;
const DISK_BYTES = 4 << 20;
const SLOTS_EACH = '5';
/** @type {Readonly<Record<string, string>>} */
const WHEN = {
  early: 'before there is a vCPU',
  halted: 'the vCPU halts',
  running: 'the vCPU runs in ring 0',
};

/** @typedef {Pick<import('../lib/vmms.mjs').Vmm, 'name' | 'file'>} Contender */

/**
 * @typedef {object} Bench
 * @property {import('../lib/programs.mjs').IoPrograms} programs
 * @property {string} hello the payload guest that halts
 * @property {Results} results
 * @property {string} folder for images and sockets
 * @property {import('../lib/arguments.mjs').Arguments} options
 */

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchHotplug(options) {
  const results = new Results('hotplug');
  requireKvm();
  exitOnSignals();
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  results.rounds = rounds;
  const programs = await step('building the helper and the guests', buildIoPrograms);
  const { hello } = await buildApiPrograms();
  const contenders = contendersOf(options, results);
  for (const { name, file } of contenders) results.versions[name] = versionOf(file);
  const folder = fs.mkdtempSync(path.join(options.folder ?? os.tmpdir(), 'tsvmm-bench-'));
  const clean = () => fs.rmSync(folder, { recursive: true, force: true });
  // A signal ends the process without coming past here.
  process.once('exit', clean);
  const bench = { programs, hello, results, folder, options };
  try {
    await step(`disks one after the other, ${rounds} rounds`, (detail) =>
      inTurn(contenders, rounds, detail, (one) => measureSeries(bench, one)),
    );
    await step(`vCPUs and memory, ${rounds} rounds`, (detail) =>
      inTurn(contenders, rounds, detail, (one) => measureResize(bench, one)),
    );
    const image = await new Images(programs.host, folder, DISK_BYTES).prepare({
      format: 'raw',
      direct: false,
    });
    await step(`disks beside one that is read, ${rounds} rounds`, (detail) =>
      inTurn(contenders, rounds, detail, (one) => measureDelay(bench, one, image)),
    );
    await step('memory slots', () => measureSlots(bench));
  } finally {
    process.off('exit', clean);
    clean();
  }
  return results;
}

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {Results} results
 * @returns {Contender[]}
 */
function contendersOf(options, results) {
  /** @type {Contender[]} */
  const contenders = [tsvmm('tsvmm')];
  for (const peer of /** @type {const} */ (['cloud-hypervisor', 'baseline'])) {
    const file = options.peers.get(peer);
    if (options.only && !options.only.includes(peer)) continue;
    if (file) contenders.push(peer === 'baseline' ? { name: peer, file } : cloudHypervisor(file));
    else if (peer !== 'baseline') results.skip(peer, `not given (--peer ${peer}=PATH)`);
  }
  return contenders;
}

/**
 * Another contender goes first in each round; the round before the first does not count.
 *
 * @param {readonly Contender[]} contenders
 * @param {number} rounds
 * @param {(text: string) => void} detail
 * @param {(contender: Contender) => Promise<() => void>} measure gives what notes its figures
 */
async function inTurn(contenders, rounds, detail, measure) {
  for (let round = -1; round < rounds; round++) {
    detail(round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(turn + Math.max(round, 0)) % contenders.length];
      const note = contender && (await measure(contender));
      if (round >= 0) note?.();
    }
  }
}

/** @param {Bench} bench */
async function measureSlots({ programs, results }) {
  const { stdout } = await run(programs.host, ['slots', '--count', SLOTS_EACH]);
  for (const [, when = '', nanoseconds] of stdout.matchAll(/^slot (\w+) (\d+)$/gm)) {
    results.add(SLOT, WHEN[when] ?? when, Number(nanoseconds) / 1e6);
  }
}
