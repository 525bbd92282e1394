/** `npm run bench -- blk`: every case on every VMM, in turn, round by round. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exitOnSignals, Failure, step } from '../../scripts/lib/progress.mjs';
import { buildIoPrograms } from '../lib/programs.mjs';
import { versionOf } from '../lib/timedRun.mjs';
import { selectCases } from './cases.mjs';
import { findContenders } from './contenders.mjs';
import { Images } from './images.mjs';
import { IoResults } from './ioResults.mjs';
import { exitsOf, failureOf, parseRecord, resultOf, sampleOf } from './record.mjs';

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
 * @param {import('./cases.mjs').Case['benchmark']} benchmark
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<IoResults>}
 */
export async function benchIo(benchmark, options) {
  const cases = selectCases(benchmark, options.cases);
  const results = new IoResults(benchmark);
  if (options.list) {
    results.notes.push(...cases.map((one) => `${one.name.padEnd(26)}${one.title}`));
    return results;
  }
  if (cases.length === 0) throw new Failure(`${benchmark} has no such case (--list names them)`);
  exitOnSignals();
  const programs = await step('building the helper and the guest', buildIoPrograms);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  const images = new Images(
    programs.host,
    options.folder ? fs.mkdtempSync(path.join(options.folder, 'tsvmm-bench-')) : folder,
  );
  try {
    const contenders = findContenders(options, (name, reason) => results.skip(name, reason));
    for (const one of contenders) results.versions[one.name] = versionOf(one.file);
    for (const one of cases) {
      await step(`${benchmark} ${one.name}`, (detail) =>
        runCase({ options, programs, folder, images, results }, contenders, one, detail),
      );
    }
  } finally {
    images.remove();
    fs.rmSync(folder, { recursive: true, force: true });
  }
  return results;
}

/**
 * @param {IoBench} bench
 * @param {readonly import('./contenders.mjs').Contender[]} contenders
 * @param {import('./cases.mjs').Case} one
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
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
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
 * @param {IoBench} bench
 * @param {import('./contenders.mjs').Contender} contender
 * @param {import('./cases.mjs').Case} one
 * @param {number} round below 0: do not count it
 */
async function runOnce(bench, contender, one, round) {
  const { images, options, results } = bench;
  const folder = fs.mkdtempSync(path.join(bench.folder, 'run-'));
  const settings = new Map([...Object.entries(one.guest), ...options.set]);
  const disk = one.disk && { ...one.disk, ...(contender.raw && { format: /** @type {const} */ ('raw') }) };
  const image = disk && (await images.prepare(disk));
  if (image) settings.set('seed', String(image.seed));
  const writes = Number(settings.get('write') ?? 0) > 0;
  if (image && writes) images.written(image.path);
  const args = contender.args({
    guest: bench.programs.guest,
    commandLine: [...settings].map(([key, value]) => `${key}=${value}`).join(' '),
    folder,
    disk: disk && image && { ...disk, path: image.path, queues: Number(settings.get('queues') ?? 1) },
  });
  const words = [
    '--timeout',
    `${RUN_TIMEOUT_MS}`,
    '--vcpu',
    contender.vcpu,
    '--exits',
    round < 0 ? '1' : '0',
  ];
  const { record, errors } = await runHelper(bench.programs.host, [
    'run',
    ...words,
    '--',
    contender.file,
    ...args,
  ]);
  let failure = failureOf(record);
  if (!failure && disk && image && writes) {
    failure = await images.faults(
      image.path,
      disk.format,
      image.seed,
      resultOf(record).get('distinct-units') ?? -1,
    );
  }
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
 * @returns {Promise<{record: import('./record.mjs').RunRecord, errors: string}>}
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
  if (code !== 0) throw new Failure(`the helper failed: ${errors.trim()}`);
  return { record: parseRecord(output), errors: errors.trim() };
}
