/** The harness's own command line. */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Failure } from '../../scripts/lib/progress.mjs';

/** Peers that the harness knows how to drive, given by path; `baseline` is another tsvmm. */
export const PEERS = /** @type {const} */ (['firecracker', 'cloud-hypervisor', 'baseline']);

/** @typedef {typeof PEERS[number]} Peer */

/**
 * @typedef {object} Arguments
 * @property {string[]} names benchmarks to run, all of them if empty
 * @property {Map<Peer, string>} peers absolute paths
 * @property {string[] | undefined} only names of peers that take part, all that are there if undefined
 * @property {string | undefined} json file for the results
 * @property {string | undefined} html file for the report
 * @property {number | undefined} rounds
 * @property {RegExp[]} cases which cases of blk, net and vsock, all of them if empty
 * @property {Map<string, string>} set options of the measuring guest that go before a case's own
 * @property {string | undefined} devices appended to tsvmm's device option in blk, net and vsock
 * @property {number} imageMib size of disk images
 * @property {string | undefined} folder for disk images
 * @property {boolean} list
 * @property {boolean} help
 */

export const USAGE = `usage: npm run bench -- [NAME...] [OPTION...]

names     start   starting, ending, idling                       boot     a stock guest, counted in instructions
          blk     disks: reads, writes, latencies                net      frames through a tap device
          vsock   streams to and from a UNIX socket on the host  linux    a stock guest's disk, counted in instructions
          api     answers of the control socket                  supervisor  many VMs under tsvmmd
          hotplug devices that come while the guest runs
          all of them if none is named

options   --peer NAME=PATH   firecracker, cloud-hypervisor, or baseline (another checkout's bin/tsvmm)
          --peers LIST       only these take part beside tsvmm: qemu and names of --peer; none: tsvmm alone
          --case PATTERN     blk, net, vsock: cases whose name matches; * stands for anything; may be repeated
          --list             blk, net, vsock: name the cases and end
          --rounds N         how often every contender has its turn
          --set KEY=VALUE    blk, net, vsock: another value for an option of the measuring guest (ms=1000, depth=8);
                             api: ms=1000, how long each load lasts; supervisor: vms=500, busy=200
          --device OPTIONS   blk, net, vsock: appended to tsvmm's --disk, --net or --vsock (queue_size=256)
          --image-mib N      blk: size of disk images, 256 unless given
          --folder FOLDER    blk: where disk images go, the system's temporary folder otherwise
          --json FILE        everything, single samples included
          --html FILE        a report with plots

for example
  npm run bench -- blk --case randread-4k-d32 --rounds 3 --peers qemu
  npm run bench -- blk --case 'direct-*' --peer baseline=../before/bin/tsvmm --peers baseline
`;

const STRING = /** @type {const} */ ({ type: 'string' });
const STRINGS = /** @type {const} */ ({ type: 'string', multiple: true });
const FLAG = /** @type {const} */ ({ type: 'boolean', default: false });

/**
 * @param {string[]} argv
 * @returns {Arguments}
 */
export function parseArguments(argv) {
  const { values, positionals } = parse(argv);
  return {
    names: positionals,
    peers: parsePeers(values.peer ?? []),
    only: values.peers?.split(',').filter((name) => name !== '' && name !== 'none'),
    json: values.json,
    html: values.html,
    rounds: values.rounds === undefined ? undefined : parseCount('--rounds', values.rounds),
    cases: (values.case ?? []).flatMap((list) => list.split(',')).map(globPattern),
    set: parseSettings(values.set ?? []),
    devices: values.device,
    imageMib: parseCount('--image-mib', values['image-mib']),
    folder: values.folder && path.resolve(values.folder),
    list: values.list,
    help: values.help,
  };
}

/** @param {string[]} argv */
function parse(argv) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        peer: STRINGS,
        peers: STRING,
        json: STRING,
        html: STRING,
        rounds: STRING,
        case: STRINGS,
        set: STRINGS,
        device: STRING,
        'image-mib': { ...STRING, default: '256' },
        folder: STRING,
        list: FLAG,
        help: { ...FLAG, short: 'h' },
      },
    });
  } catch (error) {
    throw new Failure(`${/** @type {Error} */ (error).message}\n${USAGE}`);
  }
}

/**
 * @param {string} option
 * @param {string} text
 */
function parseCount(option, text) {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new Failure(`${option} wants a positive whole number, not '${text}'`);
}

/** @param {string} glob where * stands for anything */
function globPattern(glob) {
  const parts = glob.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}

/** @param {string[]} options each KEY=VALUE */
function parseSettings(options) {
  return new Map(
    options.map((option) => {
      const [, key = '', value = ''] = /^([\w-]+)=(.*)$/.exec(option) ?? [];
      if (key === '') throw new Failure(`--set wants KEY=VALUE, not '${option}'`);
      return [key, value];
    }),
  );
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
