/** Runs a program under spawn.c and makes sense of the times it took. */

import { execFileSync, spawn } from 'node:child_process';
import { Failure } from '../../scripts/lib/progress.mjs';

/** What the payload guest prints. */
export const MARKER = 'hello\n';

/**
 * @typedef {object} TimedRun
 * @property {number} exec nanoseconds of CLOCK_MONOTONIC, as are all times here
 * @property {{time: number, bytes: Buffer}[]} chunks the output, piece by piece
 * @property {number} exit
 * @property {number} status as of wait(2)
 * @property {number} cpuMicroseconds user and system time of the process and all it waited for
 * @property {string} stderr
 */

/**
 * @param {string} spawnHelper
 * @param {string} file absolute path
 * @param {readonly string[]} args
 * @param {{timeoutMs: number, env?: NodeJS.ProcessEnv}} options
 * @returns {Promise<TimedRun>}
 */
export async function timedRun(spawnHelper, file, args, options) {
  const child = spawn(spawnHelper, [String(options.timeoutMs), file, ...args], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let record = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    record += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Failure(`cannot run ${file}: ${stderr.trim()}`);
  return { ...parseRecord(record), stderr };
}

/**
 * @param {string} record what spawn.c printed
 * @returns {TimedRun}
 */
export function parseRecord(record) {
  /** @type {TimedRun} */
  const result = { exec: 0, chunks: [], exit: 0, status: -1, cpuMicroseconds: 0, stderr: '' };
  for (const line of record.split('\n')) {
    const [kind, time, ...fields] = line.split(' ');
    if (kind === 'exec') result.exec = Number(time);
    if (kind === 'data') {
      result.chunks.push({ time: Number(time), bytes: Buffer.from(fields[0] ?? '', 'hex') });
    }
    if (kind === 'exit') {
      result.exit = Number(time);
      result.status = Number(fields[0]);
      result.cpuMicroseconds = Number(fields[1]) + Number(fields[2]);
    }
  }
  return result;
}

/**
 * When the first and the last byte of every occurrence of `marker` in the output arrived.
 *
 * @param {TimedRun} run
 * @param {string} marker
 * @returns {{first: number, last: number}[]}
 */
export function findMarkers(run, marker) {
  const text = Buffer.concat(run.chunks.map((chunk) => chunk.bytes)).toString('latin1');
  const found = [];
  for (let at = text.indexOf(marker); at >= 0; at = text.indexOf(marker, at + marker.length)) {
    found.push({ first: arrival(run, at), last: arrival(run, at + marker.length - 1) });
  }
  return found;
}

/**
 * @param {TimedRun} run
 * @param {number} position of a byte in the output
 */
function arrival(run, position) {
  let end = 0;
  for (const chunk of run.chunks) {
    end += chunk.bytes.length;
    if (position < end) return chunk.time;
  }
  throw new Error(`the output has no byte ${position}`);
}

/**
 * What a program says of its version: the first line with a digit in it, or 'unknown'.
 *
 * @param {string} file
 */
export function versionOf(file) {
  const text = execFileSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return (
    text
      .split('\n')
      .find((line) => /\d/.test(line))
      ?.trim() ?? 'unknown'
  );
}
