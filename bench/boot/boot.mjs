/**
 * `npm run bench -- boot`: a stock Debian guest from exec to its power-off, in the lab, whose clock counts executed
 * instructions. Host, VMM and guest are all in the figure, which hardly varies from run to run or machine to machine.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exitOnSignals, Failure } from '../../scripts/lib/progress.mjs';
import { PEERS } from '../lib/arguments.mjs';
import { buildStaticSpawn } from '../lib/programs.mjs';
import { Results } from '../lib/results.mjs';
import { findMarkers, parseRecord, versionOf } from '../lib/timedRun.mjs';
import { CONTENDERS } from './contenders.mjs';
import { takeTurns } from './turns.mjs';

const DEFAULT_ROUNDS = 3;

/** Emulated time; many times what a boot takes. A nested guest stops for good now and then under this clock. */
const TIMEOUT_MS = 20_000;
/** Real time of one run, within which spawn.c has given up for sure. */
const PATIENCE_SECONDS = 180;

/** The stock guest's init says this once it is up. */
const UP = ' is up: ';

const NANOSECONDS_PER_SECOND = 1e9;

/** @type {import('../lib/results.mjs').Metric} */
const TO_USER_SPACE = {
  id: 'boot-to-user-space',
  title: "From exec to the guest's first user-space line",
  unit: 'billion instructions',
  references: PEERS,
};

/** @type {import('../lib/results.mjs').Metric} */
const TO_EXIT = {
  id: 'boot-to-exit',
  title: "From exec to the end of the process after the guest's power-off",
  unit: 'billion instructions',
  references: PEERS,
};

/** @type {import('../lib/results.mjs').Metric} */
const CPU = {
  id: 'boot-cpu',
  title: 'Of these, in the VMM process and its guest (CPU time)',
  unit: 'billion instructions',
  references: PEERS,
};

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchBoot(options) {
  exitOnSignals();
  const results = new Results('boot');
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  results.rounds = rounds;
  const share = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  try {
    const contenders = await prepare(options, share, results);
    await takeTurns({
      share,
      results,
      contenders,
      rounds,
      warmUp: true,
      title: 'stock Debian guests',
      run: async (lab, one) => {
        const boot = await bootOnce(lab, one);
        return () => add(results, one.name, boot);
      },
    });
  } finally {
    fs.rmSync(share, { recursive: true });
  }
  return results;
}

/**
 * Copies what the lab needs into the folder that it shares.
 *
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {string} share
 * @param {Results} results
 */
async function prepare(options, share, results) {
  fs.copyFileSync(await buildStaticSpawn(), path.join(share, 'spawn'));
  results.skip('qemu', 'not in the lab');
  const present = [];
  for (const one of CONTENDERS) {
    if (one.peer) {
      if (options.only && !options.only.includes(one.peer)) continue;
      const file = options.peers.get(one.peer);
      if (!file) {
        results.skip(one.name, `not given (--peer ${one.peer}=PATH)`);
        continue;
      }
      fs.copyFileSync(file, path.join(share, one.peer));
      results.versions[one.name] = versionOf(file);
    }
    for (const [name, content] of Object.entries(one.files ?? {})) {
      fs.writeFileSync(path.join(share, name), content);
    }
    present.push(one);
  }
  return present;
}

/**
 * @param {import('../../scripts/lab/lab.mjs').Lab} lab
 * @param {import('./contenders.mjs').Contender} one
 */
async function bootOnce(lab, one) {
  const command = ['/share/spawn', String(TIMEOUT_MS), ...one.command];
  const { code, stdout, stderr } = await lab.run(command, {
    timeoutSeconds: PATIENCE_SECONDS,
    ...(one.env && { env: one.env }),
  });
  const record = parseRecord(stdout);
  const [up] = findMarkers(record, UP);
  if (code !== 0 || record.status !== 0 || !up) {
    const printed = Buffer.concat(record.chunks.map((chunk) => chunk.bytes)).toString();
    throw new Failure(
      `${one.name} did not boot the guest (wait status ${record.status}):\n${printed.slice(-500)}\n${stderr.slice(-500)}`,
    );
  }
  return { record, up };
}

/**
 * @param {Results} results
 * @param {string} name
 * @param {Awaited<ReturnType<typeof bootOnce>>} boot
 */
function add(results, name, { record, up }) {
  results.add(TO_USER_SPACE, name, (up.first - record.exec) / NANOSECONDS_PER_SECOND);
  results.add(TO_EXIT, name, (record.exit - record.exec) / NANOSECONDS_PER_SECOND);
  results.add(CPU, name, record.cpuMicroseconds / 1e6);
}
