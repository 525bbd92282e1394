/** `npm run bench -- api`: how fast the control socket answers, of tsvmm and of Cloud Hypervisor. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../scripts/lib/exec.mjs';
import { DIST, ROOT } from '../../scripts/lib/paths.mjs';
import { Failure, step } from '../../scripts/lib/progress.mjs';
import { buildApiPrograms } from '../lib/programs.mjs';
import { requireKvm } from '../lib/requireKvm.mjs';
import { Results } from '../lib/results.mjs';
import { versionOf } from '../lib/timedRun.mjs';
import { BEHAVIOUR, cloudHypervisor, MEMORY_MIB, tsvmm } from '../lib/vmms.mjs';
import { end } from '../start/footprint.mjs';
import { HOSTS } from '../start/library.mjs';
import { ApiClient } from './client.mjs';
import { CREATE_AND_BOOT, FIRST_BOOT, LOADS, MANY } from './metrics.mjs';

const DEFAULT_ROUNDS = 5;
/** How long each load lasts unless `--set ms=` says otherwise. */
const DEFAULT_MS = '1000';
const START_TIMEOUT_MS = 30_000;
const SLOW_CHANGES = ['vm.pause', 'vm.resume', 'vm.reboot'].map((change) => `/api/v1/${change}`);
/** Of Cloud Hypervisor's 10 connections one is this program's own. */
const PEER_CLIENTS = 9;

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {string} file
 * @property {number} [maxClients] that it serves at once, if that is few
 * @property {boolean} [waits] a removal is answered when the guest has given the device up
 */

/**
 * @typedef {object} Bench
 * @property {Awaited<ReturnType<typeof buildApiPrograms>>} programs
 * @property {Results} results
 * @property {string} folder for sockets
 * @property {string} milliseconds of each load
 */

/**
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @returns {Promise<Results>}
 */
export async function benchApi(options) {
  const results = new Results('api');
  requireKvm();
  const rounds = options.rounds ?? DEFAULT_ROUNDS;
  const programs = await step('building the helpers', buildApiPrograms);
  const contenders = contendersOf(options, results);
  for (const { name, file } of contenders) results.versions[name] = versionOf(file);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bench-'));
  const bench = { programs, results, folder, milliseconds: options.set.get('ms') ?? DEFAULT_MS };
  try {
    await step(`answers, ${rounds} rounds`, async (detail) => {
      for (let round = 0; round < rounds; round++) {
        detail(`round ${round + 1} of ${rounds}`);
        for (let turn = 0; turn < contenders.length; turn++) {
          // Another one goes first in each round.
          const contender = contenders[(turn + round) % contenders.length];
          if (contender) await measure(bench, contender);
        }
      }
    });
    await step('library calls', () => measureLibrary(bench, rounds));
  } finally {
    fs.rmSync(folder, { recursive: true });
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
  const contenders = [{ ...tsvmm('tsvmm'), waits: true }];
  for (const peer of /** @type {const} */ (['cloud-hypervisor', 'baseline'])) {
    const file = options.peers.get(peer);
    if (options.only && !options.only.includes(peer)) continue;
    if (!file) results.skip(peer, `not given (--peer ${peer}=PATH)`);
    else if (peer === 'baseline') contenders.push({ ...tsvmm(peer), file });
    else contenders.push({ ...cloudHypervisor(file), maxClients: PEER_CLIENTS });
  }
  const fewer = contenders.find(({ maxClients = MANY }) => maxClients < MANY);
  if (fewer) results.skip(`${fewer.name} with ${MANY} clients`, `it serves ${fewer.maxClients} at once`);
  return contenders;
}

/**
 * Starts a VMM with nothing in it, gives it a VM by its socket, and asks.
 *
 * @param {Bench} bench
 * @param {Contender} contender
 */
async function measure(bench, { name, file, maxClients = MANY, waits = false }) {
  const { programs, results, folder } = bench;
  const socket = path.join(fs.mkdtempSync(path.join(folder, 'api-')), 'api.sock');
  const child = spawn(file, ['--api-socket', `path=${socket}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (bytes) => {
    errors += bytes;
  });
  const client = new ApiClient(socket);
  try {
    await ready(client, name, () => errors);
    results.add(FIRST_BOOT, name, await timed(() => createAndBoot(client, programs.hello)));
    await client.ask('PUT', 'vm.delete');
    results.add(CREATE_AND_BOOT, name, await timed(() => createAndBoot(client, programs.hello)));
    for (const load of LOADS) {
      if (load.clients > maxClients || (load.state === 'waiting' && !waits)) continue;
      const remover = load.state === 'waiting' ? await beginRemoval(socket, load.metrics.rate.id) : undefined;
      await measureLoad(bench, { name, socket }, load);
      remover?.close();
    }
  } catch (error) {
    throw new Failure(`${name}: ${/** @type {Error} */ (error).message} ${errors.trim()}`);
  } finally {
    client.close();
    await end(child);
  }
}

/**
 * @param {Bench} bench
 * @param {{ readonly name: string, readonly socket: string }} contender
 * @param {import('./metrics.mjs').Load} load
 */
async function measureLoad({ programs, results, milliseconds }, { name, socket }, load) {
  const { endpoint, clients, state, metrics } = load;
  const changes = state === 'changing' ? SLOW_CHANGES : [];
  const words = [socket, `/api/v1/${endpoint}`, String(clients), milliseconds, ...changes];
  const { stdout } = await run(programs.apiLoad, words);
  const { rate, p99, ...done } = JSON.parse(stdout);
  results.add(metrics.rate, name, rate);
  results.add(metrics.late, name, p99);
  if (metrics.changes) results.add(metrics.changes, name, (done.changes * 1000) / Number(milliseconds));
}

/**
 * Adds a disk and asks the guest to give it up, which it never does.
 *
 * @param {string} socket
 * @param {string} id of the disk
 * @returns {Promise<ApiClient>} waits for that until it is closed
 */
async function beginRemoval(socket, id) {
  const image = path.join(fs.mkdtempSync(path.join(path.dirname(socket), 'disk-')), 'image');
  fs.writeFileSync(image, Buffer.alloc(1 << 20));
  const client = new ApiClient(socket);
  await client.ask('PUT', 'vm.add-disk', { id, path: image, image_type: 'Raw' });
  client.ask('PUT', 'vm.remove-device', { id, wait_ms: START_TIMEOUT_MS }).catch(() => {});
  return client;
}

/**
 * @param {ApiClient} client
 * @param {string} name
 * @param {() => string} errors
 */
async function ready(client, name, errors) {
  const last = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await client.ask('GET', 'vmm.ping');
    } catch (error) {
      if (Date.now() > last) throw new Failure(`${name} does not answer: ${errors()}`, { cause: error });
      await sleep(5);
    }
  }
}

/**
 * @param {ApiClient} client
 * @param {string} kernel
 */
async function createAndBoot(client, kernel) {
  await client.ask('PUT', 'vm.create', {
    payload: { kernel, cmdline: BEHAVIOUR.idle },
    memory: { size: MEMORY_MIB << 20 },
    serial: { mode: 'Null' },
    console: { mode: 'Off' },
  });
  await client.ask('PUT', 'vm.boot');
}

/**
 * @param {() => Promise<void>} work
 * @returns {Promise<number>} milliseconds
 */
async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/**
 * @param {Bench} bench
 * @param {number} rounds
 */
async function measureLibrary({ programs, results }, rounds) {
  const child = path.join(ROOT, 'bench/start/libraryChild.mjs');
  const words = [path.join(DIST, 'js/index.js'), programs.hello, String(MEMORY_MIB)];
  for (const { name, file, env } of HOSTS) {
    /** @param {...string} args */
    const durations = async (...args) => {
      const { stdout } = await run(file, [child, ...args], { env: { ...process.env, ...env } });
      return (stdout.match(/^\d+(\.\d+)? ms$/gm) ?? []).map(Number.parseFloat);
    };
    for (let round = 0; round < rounds; round++) {
      for (const one of await durations('first', ...words)) results.add(FIRST_BOOT, name, one);
    }
    for (const one of await durations('durations', ...words, String(rounds))) {
      results.add(CREATE_AND_BOOT, name, one);
    }
  }
}
