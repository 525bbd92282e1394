/**
 * Calls of libvirt's protocol that a daemon answers: `tsvmmd`, and Debian's libvirtd with a driver that does nothing.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../scripts/lib/exec.mjs';
import { listens } from '../../scripts/lib/listeningSockets.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { findCommand } from '../lib/findCommand.mjs';
import { buildRpc } from '../lib/programs.mjs';
import { BEHAVIOUR } from '../lib/vmms.mjs';
import { machine } from './latency.mjs';
import { RPC } from './metrics.mjs';

const LIBVIRTD = 'libvirtd, test:///default';
const NAME = 'rpc';
const ROUNDS = 5;
const MILLISECONDS = 1_000;
/** Calls under way at once. */
const WINDOW = 64;
const START_MS = 60_000;
/** Its QEMU driver wants accounts that only the system's service has, unless it is somebody's own. */
const NOBODY = 65_534;

/**
 * @param {import('./supervisor.mjs').Bench} bench
 * @param {import('./daemon.mjs').Daemon} daemon
 */
export async function measureRpc({ programs, results, folder }, daemon) {
  const rpc = await buildRpc();
  const ask = async (/** @type {string} */ subject, /** @type {string[]} */ words) => {
    const { stdout } = await run(rpc, [...words, String(MILLISECONDS), String(WINDOW)]);
    results.add(RPC, subject, JSON.parse(stdout).rate);
  };
  await daemon.call('POST', 'vms', { name: NAME, config: machine(programs.hello, BEHAVIOUR.idle) });
  await daemon.call('POST', `vms/${NAME}/start`);
  const peer = await startLibvirtd(results, path.join(folder, 'libvirtd'));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      await ask('tsvmmd', [path.join(daemon.dir, 'virttsvmmd-sock'), 'tsvmm:///system', NAME]);
      if (peer) await ask(LIBVIRTD, [peer.socket, 'test:///default', 'test']);
    }
  } finally {
    if (peer) {
      peer.child.kill('SIGKILL');
      await peer.exited;
    }
    await daemon.call('DELETE', `vms/${NAME}?force=true`);
  }
}

/**
 * @param {import('../lib/results.mjs').Results} results
 * @param {string} folder
 */
async function startLibvirtd(results, folder) {
  const program = findCommand('libvirtd');
  if (!program) {
    results.skip(LIBVIRTD, 'libvirtd is not installed');
    return undefined;
  }
  const socket = path.join(folder, 'libvirt/libvirt-sock');
  fs.mkdirSync(folder);
  const root = process.getuid?.() === 0;
  if (root) {
    fs.chmodSync(path.dirname(folder), 0o755);
    fs.chownSync(folder, NOBODY, NOBODY);
  }
  const child = spawn(program, [], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'ignore'],
    env: {
      PATH: `${process.env.PATH}:/usr/sbin`,
      ...{ HOME: folder, XDG_RUNTIME_DIR: folder, XDG_CONFIG_HOME: folder, XDG_CACHE_HOME: folder },
    },
    ...(root && { uid: NOBODY, gid: NOBODY }),
  });
  const exited = once(child, 'exit');
  const end = performance.now() + START_MS;
  while (!listens(socket)) {
    if (child.exitCode !== null || performance.now() > end) throw new Failure('libvirtd does not serve');
    await sleep(20);
  }
  return { child, exited, socket };
}
