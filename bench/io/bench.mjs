/** `npm run bench -- blk`, `net` and `vsock`: every case on every VMM, in turn, round by round. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exitOnSignals, Failure, step } from '../../scripts/lib/progress.mjs';
import { buildIoPrograms } from '../lib/programs.mjs';
import { requireKvm } from '../lib/requireKvm.mjs';
import { versionOf } from '../lib/timedRun.mjs';
import { selectCases } from './cases/cases.mjs';
import { findContenders } from './contenders.mjs';
import { Images } from './images.mjs';
import { IoResults } from './ioResults.mjs';
import { exitsOf, failureOf, parseRecord, sampleOf } from './record.mjs';
import { prepareResources } from './resources.mjs';

const DEFAULT_ROUNDS = 5;
const RUN_TIMEOUT_MS = 20_000;

/**
 * @typedef {object} IoBench
 * @property {import('../lib/arguments.mjs').Arguments} options
 * @property {import('../lib/programs.mjs').IoPrograms} programs
 * @property {string} folder for sockets and config files
 * @property {Images} images
 * @property {IoResults} results
 */

/**
 * @param {import('./cases/cases.mjs').IoBenchmark} benchmark
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<IoResults>}
 */
export async function benchIo(benchmark, options) {
  const cases = selectCases(benchmark, options.cases);
  const results = new IoResults(benchmark);
  results.rounds = roundsOf(options);
  if (options.list) {
    results.notes.push(...cases.map((one) => `${one.name.padEnd(26)}${one.title}`));
    return results;
  }
  if (cases.length === 0) throw new Failure(`${benchmark} has no such case (--list names them)`);
  requireKvm();
  exitOnSignals();
  const programs = await step('building the helper and the guest', buildIoPrograms);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  const images = new Images(
    programs.host,
    options.folder ? fs.mkdtempSync(path.join(options.folder, 'tsvmm-bench-')) : folder,
    options.imageMib * 2 ** 20,
  );
  const clean = () => {
    images.remove();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  // A signal ends the process without coming past here.
  process.once('exit', clean);
  try {
    const contenders = findContenders(benchmark, options, (name, reason) => results.skip(name, reason));
    for (const one of contenders) results.versions[one.name] = versionOf(one.file);
    for (const one of cases) {
      await step(`${benchmark} ${one.name}`, (detail) =>
        runCase({ options, programs, folder, images, results }, contenders, one, detail),
      );
    }
  } finally {
    process.off('exit', clean);
    clean();
  }
  return results;
}

/** @param {import('../lib/arguments.mjs').Arguments} options */
function roundsOf({ rounds }) {
  return rounds ?? DEFAULT_ROUNDS;
}

/**
 * @param {IoBench} bench
 * @param {readonly import('./contenders.mjs').Contender[]} contenders
 * @param {import('./cases/cases.mjs').Case} one
 * @param {(text: string) => void} detail
 */
async function runCase(bench, contenders, one, detail) {
  const { results, options } = bench;
  const missing = one.disk && Images.missing(one.disk.format);
  if (missing) {
    results.skip(one.name, missing);
    return;
  }
  const able = contenders.filter((contender) => {
    const reason = contender.refuses(one);
    if (reason) results.skip(`${one.name}, ${contender.name}`, reason);
    return !reason;
  });
  const [first] = able;
  if (one.disk && one.disk.format !== 'raw' && first) {
    able.push({ ...first, name: `${first.name}, raw image`, raw: true });
  }
  able.push(...(one.floors ?? []).map((floor) => floorContender(floor, bench.programs.host)));
  const rounds = roundsOf(options);
  // The round before the first warms everything up and counts exits, which would slow the others down.
  for (let round = -1; round < rounds; round++) {
    for (let turn = 0; turn < able.length; turn++) {
      const contender = able[(turn + Math.max(round, 0)) % able.length];
      // Who cannot do it at all has said so in the round before the first.
      if (!contender || (round >= 0 && !results.isWarm(one, contender.name))) continue;
      detail(`${round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`}, ${contender.name}`);
      await runOnce(bench, contender, one, round);
    }
  }
}

/**
 * @param {import('./cases/cases.mjs').Floor} floor
 * @param {string} helper
 * @returns {import('./contenders.mjs').Contender}
 */
function floorContender(floor, helper) {
  return {
    name: floor.name,
    file: helper,
    vcpu: 'vcpu',
    args: (run) => floor.args(run.guest, run.commandLine),
    refuses: () => undefined,
    ...(floor.guest && { guest: floor.guest }),
  };
}

/**
 * @param {IoBench} bench
 * @param {import('./contenders.mjs').Contender} contender
 * @param {import('./cases/cases.mjs').Case} one
 * @param {number} round below 0: do not count it
 */
async function runOnce(bench, contender, one, round) {
  const { options, results } = bench;
  const folder = fs.mkdtempSync(path.join(bench.folder, 'run-'));
  const settings = new Map([...Object.entries(contender.guest ?? one.guest), ...options.set]);
  const resources = await prepareResources(bench, contender, one, settings, folder);
  const args = contender.args({
    guest: bench.programs.guest,
    commandLine: [...settings].map(([key, value]) => `${key}=${value}`).join(' '),
    folder,
    ...resources.run,
  });
  const words = [
    '--timeout',
    `${RUN_TIMEOUT_MS}`,
    '--vcpu',
    contender.vcpu,
    '--exits',
    round < 0 ? '1' : '0',
  ];
  const command = ['run', ...words, ...resources.words, '--', contender.file, ...args];
  const { code, record, errors } = await runHelper(bench.programs.host, command);
  // Its own failures come from what this host does not allow, for example a network namespace.
  const failure = code === 0 ? (failureOf(record) ?? (await resources.faults(record))) : 'the helper failed:';
  fs.rmSync(folder, { recursive: true, force: true });
  if (failure) {
    results.fail(one, contender.name, `${failure}${errors && `\n${errors.slice(-1000)}`}`);
  } else if (round < 0) {
    results.addExits(one, contender.name, exitsOf(record), record.values.get('counters-missing'));
  } else {
    results.add(one, contender.name, round, sampleOf(record, one.rate));
  }
}

/**
 * @param {string} file
 * @param {readonly string[]} args
 * @returns {Promise<{code: number, record: import('./record.mjs').RunRecord, errors: string}>}
 */
async function runHelper(file, args) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('latin1').on('data', (text) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    errors += text;
  });
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, record: parseRecord(output), errors: errors.trim() };
}
