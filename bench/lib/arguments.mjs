/** The harness's own command line. */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Failure } from '../../scripts/lib/progress.mjs';

/** Peers that the harness knows how to drive. */
export const PEERS = /** @type {const} */ (['firecracker', 'cloud-hypervisor']);

/** @typedef {typeof PEERS[number]} Peer */

/**
 * @typedef {object} Arguments
 * @property {string[]} names benchmarks to run, all of them if empty
 * @property {Map<Peer, string>} peers absolute paths
 * @property {string | undefined} json file for the results
 * @property {number | undefined} rounds
 */

/**
 * @param {string[]} argv
 * @returns {Arguments}
 */
export function parseArguments(argv) {
  const { values, positionals } = parse(argv);
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) {
    throw new Failure(`--rounds wants a positive whole number, not '${values.rounds}'`);
  }
  return { names: positionals, peers: parsePeers(values.peer ?? []), json: values.json, rounds };
}

/** @param {string[]} argv */
function parse(argv) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        peer: { type: 'string', multiple: true },
        json: { type: 'string' },
        rounds: { type: 'string' },
      },
    });
  } catch (error) {
    throw new Failure(
      `${/** @type {Error} */ (error).message}\n` +
        'usage: npm run bench -- [start] [boot] [--peer firecracker=PATH] [--peer cloud-hypervisor=PATH] ' +
        '[--json FILE] [--rounds N]',
    );
  }
}

/** @param {string[]} options each NAME=PATH */
function parsePeers(options) {
  /** @type {Map<Peer, string>} */
  const peers = new Map();
  for (const option of options) {
    const [name, ...rest] = option.split('=');
    const peer = PEERS.find((known) => known === name);
    if (!peer) throw new Failure(`--peer: '${name}' is none of ${PEERS.join(', ')}`);
    const file = path.resolve(rest.join('='));
    try {
      fs.accessSync(file, fs.constants.X_OK);
    } catch {
      throw new Failure(`--peer ${peer}: cannot execute ${file}`);
    }
    peers.set(peer, file);
  }
  return peers;
}
