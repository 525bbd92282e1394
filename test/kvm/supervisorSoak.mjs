/**
 * VMs are defined, started, stopped and removed, again and again, while `tsvmmd` is killed at random moments: what it
 * had acknowledged is so afterwards, and nothing is left at the end. For as long as one likes by hand:
 *
 *     node test/kvm/supervisorSoak.mjs 2000 [SEED]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { vmhostProcessesOf } from '../../scripts/lib/vmhostProcesses.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const WORKERS = 4;
const POOL = 2;
/** Between the moment when the supervisor serves and its end by SIGKILL. */
const LIFE_MS = { min: 5, max: 1_500 };
const PATIENCE_MS = 60_000;

const cycles = Number(process.argv[2] ?? 30);
const seed = Number(process.argv[3] ?? Date.now() % 100_000);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-soak-'));
const kernel = path.join(ROOT, 'build/guest/payload');

/** Park and Miller's generator: the same moments for the same seed. */
let state = (seed % 2_147_483_646) + 1;
function random() {
  state = (state * 48_271) % 2_147_483_647;
  return state / 2_147_483_647;
}

/** @type {import('node:child_process').ChildProcess | undefined} */
let daemon;
/** Resolves when it serves. */
let serving = Promise.resolve();
let over = false;
let kills = 0;
let begun = 0;

async function startDaemon() {
  const child = spawn(path.join(ROOT, 'bin/tsvmmd'), ['--dir', dir, '--pool', String(POOL)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  daemon = child;
  let said = '';
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      said += data;
      if (said.includes('serving ')) resolve(undefined);
    });
    child.once('exit', (code) => reject(new Error(`tsvmmd ended with ${code}: ${said}`)));
  });
}

/** Kills the supervisor, and starts the next one, until all is done. */
async function keepKilling() {
  while (!over) {
    await sleep(LIFE_MS.min + random() * (LIFE_MS.max - LIFE_MS.min));
    if (over || daemon === undefined) return;
    const gone = once(daemon, 'exit');
    daemon.kill('SIGKILL');
    kills++;
    serving = gone.then(startDaemon);
    await serving;
  }
}

/**
 * @param {string} method
 * @param {string} endpoint
 * @param {object} [body]
 * @returns {Promise<{status: number, json: any}>} status 0 if no answer came: it may have been done, or not
 */
async function call(method, endpoint, body) {
  await serving;
  const payload = body === undefined ? '' : JSON.stringify(body);
  return new Promise((resolve) => {
    const unknown = () => resolve({ status: 0, json: undefined });
    const sent = http.request(
      {
        socketPath: path.join(dir, 'tsvmmd.sock'),
        method,
        path: `/v1/${endpoint}`,
        agent: false,
        headers: { 'Content-Length': Buffer.byteLength(payload) },
      },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk) => {
          text += chunk;
        });
        answer.on('error', unknown).on('aborted', unknown);
        answer.on('end', () => {
          try {
            resolve({ status: answer.statusCode ?? 0, json: text === '' ? undefined : JSON.parse(text) });
          } catch {
            unknown();
          }
        });
      },
    );
    sent.on('error', unknown);
    sent.end(payload);
  });
}

/**
 * Does it until it is done, whatever becomes of the supervisor meanwhile.
 *
 * @param {string} name of the VM
 * @param {() => Promise<{status: number, json: any}>} work
 * @param {(vm: any) => boolean} isDone whether it is, as the supervisor describes the VM: undefined if there is none
 */
async function insist(name, work, isDone) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const { status, json } = await work();
    if (status >= 200 && status < 300) break;
    // No answer, or one that says that an earlier attempt had been heard.
    const found = await call('GET', `vms/${name}`);
    if (found.status === 200 || found.status === 404) {
      if (isDone(found.status === 404 ? undefined : found.json)) return;
    }
    if (performance.now() > end) throw new Error(`${name}: ${JSON.stringify({ status, json, found })}`);
    await sleep(20);
  }
  // Acknowledged: so it is from now on, also for the next supervisor.
  const vm = await described(name);
  if (!isDone(vm)) throw new Error(`${name}: acknowledged, and yet it is ${JSON.stringify(vm)}`);
}

/** @param {string} name */
async function described(name) {
  const end = performance.now() + PATIENCE_MS;
  while (performance.now() < end) {
    const { status, json } = await call('GET', `vms/${name}`);
    if (status === 404) return undefined;
    // One that answers slowly is not lost.
    if (status === 200 && json.state !== 'unresponsive') return json;
    await sleep(20);
  }
  throw new Error(`${name}: the supervisor does not answer`);
}

/** @param {string} name */
async function cycle(name) {
  const config = { payload: { kernel, cmdline: 'run=idle' }, memory: { size: 64 << 20 } };
  const running = (/** @type {any} */ vm) => vm?.state === 'running';
  const stopped = (/** @type {any} */ vm) => vm?.state === 'stopped';
  await insist(
    name,
    () => call('POST', 'vms', { name, config }),
    (vm) => vm !== undefined,
  );
  await insist(name, () => call('POST', `vms/${name}/start`), running);
  await insist(name, () => call('POST', `vms/${name}/stop`, { force: true }), stopped);
  await insist(
    name,
    () => call('DELETE', `vms/${name}`),
    (vm) => vm === undefined,
  );
  if (fs.existsSync(path.join(dir, 'vms', name))) throw new Error(`${name}: its folder is left`);
}

async function worker() {
  while (begun < cycles) {
    const number = begun++;
    await cycle(`vm${number}`);
    if (number > 0 && number % 100 === 0) process.stderr.write(`${number} cycles, ${kills} kills\n`);
  }
}

async function main() {
  serving = startDaemon();
  await serving;
  const killing = keepKilling();
  await Promise.all(Array.from({ length: WORKERS }, worker));
  over = true;
  await killing;
  await serving;
  if (daemon === undefined) throw new Error('there is no supervisor');
  const gone = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  await gone;
  const end = performance.now() + PATIENCE_MS;
  while (vmhostProcessesOf(dir).length > 0 && performance.now() < end) await sleep(50);
  // The lock of a supervisor that was killed may be anybody's, and stays; so do the mark of this start of the host and
  // the ids that were given.
  const files = fs
    .readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.endsWith('.lock') && !['autostarted', 'run-ids'].includes(name));
  const left = { processes: vmhostProcessesOf(dir), files };
  if (left.processes.length > 0 || left.files.join() !== 'vms') throw new Error(JSON.stringify(left));
  process.stdout.write(`${cycles} cycles, ${kills} kills, nothing lost and nothing left\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`seed ${seed}: ${/** @type {Error} */ (error).stack}\n`);
  process.exitCode = 1;
} finally {
  over = true;
  daemon?.kill('SIGKILL');
  for (const pid of vmhostProcessesOf(dir)) process.kill(Number(pid), 'SIGKILL');
  fs.rmSync(dir, { recursive: true, force: true });
}
