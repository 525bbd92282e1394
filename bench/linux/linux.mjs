/**
 * `npm run bench -- linux`: a stock Debian guest drives its disk, in the lab, whose clock counts executed instructions:
 * what a request costs in all, through both kernels and the VMM and back.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { stockGuest } from '../../scripts/lab/guest.mjs';
import { moreFiles } from '../../scripts/lab/images.mjs';
import { librariesOf } from '../../scripts/lab/tools.mjs';
import { ROOT } from '../../scripts/lib/paths.mjs';
import { exitOnSignals, Failure, step } from '../../scripts/lib/progress.mjs';
import { takeTurns } from '../boot/turns.mjs';
import { findCommand } from '../lib/findCommand.mjs';
import { buildLoad, buildStaticSpawn } from '../lib/programs.mjs';
import { Results } from '../lib/results.mjs';
import { parseRecord, versionOf } from '../lib/timedRun.mjs';
import { CONTENDERS, DISK } from './contenders.mjs';
import { costsIn, JOBS, jobLines } from './jobs.mjs';

const DEFAULT_ROUNDS = 1;
const DISK_MIB = 64;
/** Emulated time. */
const TIMEOUT_MS = 30_000;
/** Real time of one run. */
const PATIENCE_SECONDS = 200;
const REFERENCES = CONTENDERS.map(({ name }) => name).filter((name) => name !== 'tsvmm');
const FIRMWARE = '/usr/share/qemu';
const MICROVM_FIRMWARE = ['qboot.rom', 'bios-microvm.bin', 'linuxboot_dma.bin', 'pvh.bin', 'kvmvapic.bin'];

/** @type {Map<string, import('../lib/results.mjs').Metric>} by job */
const METRICS = new Map(
  JOBS.map(({ name, title }) => [
    name,
    { id: `linux-${name}`, title, unit: 'thousand instructions a request', references: REFERENCES },
  ]),
);

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchLinux(options) {
  exitOnSignals();
  const results = new Results('linux');
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  results.rounds = rounds;
  const share = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  try {
    const contenders = await step('gathering what the lab needs', () => prepare(options, share, results));
    await takeTurns({
      share,
      results,
      contenders,
      rounds,
      // The guest takes the times itself, after a warm-up of its own.
      warmUp: false,
      title: 'stock Debian guests with a disk',
      run: (lab, one) => runOnce(lab, one, results),
    });
  } finally {
    fs.rmSync(share, { recursive: true });
  }
  return results;
}

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {string} share
 * @param {Results} results
 */
async function prepare(options, share, results) {
  fs.copyFileSync(await buildStaticSpawn(), path.join(share, 'spawn'));
  await makeInitramfs(share);
  const present = [];
  for (const one of CONTENDERS) {
    if (one.peer) {
      const file = await bringPeer(one.peer, options, share, (reason) => results.skip(one.name, reason));
      if (!file) continue;
      results.versions[one.name] = versionOf(file);
    }
    for (const [name, content] of Object.entries(one.files ?? {}))
      fs.writeFileSync(path.join(share, name), content);
    present.push(one);
  }
  return present;
}

/** The stock guest's, with our own first process. @param {string} share */
async function makeInitramfs(share) {
  const jobs = path.join(share, 'jobs');
  fs.writeFileSync(jobs, jobLines());
  const added = moreFiles([
    { name: 'init', source: path.join(ROOT, 'bench/linux/init') },
    { name: 'bench/jobs', source: jobs },
    { name: 'bench/load', source: await buildLoad() },
  ]);
  const { initramfs } = await stockGuest();
  fs.writeFileSync(path.join(share, 'initramfs'), Buffer.concat([fs.readFileSync(initramfs), added]));
}

/**
 * Copies a peer into the share.
 *
 * @param {NonNullable<import('./contenders.mjs').Contender['peer']>} peer
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {string} share
 * @param {(reason: string) => void} skip
 * @returns {Promise<string | undefined>} where it is here; undefined if it does not take part
 */
async function bringPeer(peer, options, share, skip) {
  if (options.only && !options.only.includes(peer)) return undefined;
  if (peer === 'qemu') {
    const file = findCommand('qemu-system-x86_64');
    if (file) await bringQemu(file, path.join(share, 'qemu'));
    else skip('qemu-system-x86_64 is not installed');
    return file;
  }
  const file = options.peers.get(peer);
  if (file) fs.copyFileSync(file, path.join(share, peer));
  else skip(`not given (--peer ${peer}=PATH)`);
  return file;
}

/**
 * @param {string} file
 * @param {string} folder
 */
async function bringQemu(file, folder) {
  for (const name of ['lib', 'firmware']) fs.mkdirSync(path.join(folder, name), { recursive: true });
  fs.copyFileSync(file, path.join(folder, 'qemu'));
  for (const [name, source] of await librariesOf(file)) {
    fs.copyFileSync(source, path.join(folder, 'lib', path.basename(name)));
  }
  for (const name of MICROVM_FIRMWARE) {
    fs.copyFileSync(path.join(FIRMWARE, name), path.join(folder, 'firmware', name));
  }
}

/**
 * @param {import('../../scripts/lab/lab.mjs').Lab} lab
 * @param {import('./contenders.mjs').Contender} one
 * @param {Results} results
 * @returns {Promise<() => void>} records what was found
 */
async function runOnce(lab, one, results) {
  await lab.run(['dd', 'if=/dev/urandom', `of=${DISK}`, 'bs=1M', `count=${DISK_MIB}`], {
    timeoutSeconds: 60,
  });
  const { code, stdout, stderr } = await lab.run(['/share/spawn', String(TIMEOUT_MS), ...one.command], {
    timeoutSeconds: PATIENCE_SECONDS,
    ...(one.env && { env: one.env }),
  });
  const record = parseRecord(stdout);
  const printed = Buffer.concat(record.chunks.map((chunk) => chunk.bytes)).toString('latin1');
  const costs = costsIn(printed);
  if (code !== 0 || costs.size !== JOBS.length || !printed.includes('bench-done')) {
    throw new Failure(
      `it did not finish its jobs (status ${record.status}):\n${printed.slice(-600)}\n${stderr.slice(-600)}`,
    );
  }
  return () => {
    for (const [name, cost] of costs) {
      const metric = METRICS.get(name);
      if (metric) results.add(metric, one.name, cost);
    }
  };
}
