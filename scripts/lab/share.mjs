/** Folders of this machine inside the lab, by virtiofs: the stock cloud kernel has no 9p. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { listens } from '../lib/listeningSockets.mjs';
import { Failure } from '../lib/progress.mjs';

/** Debian's qemu-system-common, which qemu-system-x86 brings along, has it there. */
const VIRTIOFSD = '/usr/lib/qemu/virtiofsd';

const START_SECONDS = 10;

/**
 * @typedef {object} Share
 * @property {string} tag name of the mount
 * @property {string} folder
 * @property {boolean} steady nobody changes it from outside while the lab runs, so it may be cached in there for good
 */

/**
 * @param {readonly Share[]} shares
 * @param {string} work folder for sockets
 * @returns {Promise<{args: string[], stop: () => void, failed: Promise<string>}>} arguments for QEMU, what ends the
 *   servers, and why one of them ended before that
 */
export async function startSharing(shares, work) {
  if (process.getuid?.() !== 0) throw new Failure('the lab shares folders by virtiofsd, which needs root');
  /** @type {import('node:child_process').ChildProcess[]} */
  const servers = [];
  let stopped = false;
  const stop = () => {
    stopped = true;
    for (const server of servers) server.kill('SIGKILL');
  };
  /** @type {(why: string) => void} */
  let fail = () => {};
  /** @type {Promise<string>} */
  const failed = new Promise((resolve) => {
    fail = resolve;
  });
  const args = [];
  for (const { tag, folder, steady } of shares) {
    if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
      stop();
      throw new Failure(`${folder} is no folder`);
    }
    const socket = path.join(work, `${tag}.sock`);
    const onEnd = (/** @type {string} */ why) => {
      if (!stopped) fail(`virtiofsd for ${folder} ended: ${why}`);
    };
    servers.push(await startServer(folder, socket, steady ? 'always' : 'auto', onEnd));
    args.push('-chardev', `socket,id=${tag},path=${socket}`);
    args.push('-device', `vhost-user-fs-pci,chardev=${tag},tag=${tag}`);
  }
  return { args, stop, failed };
}

/**
 * @param {string} folder
 * @param {string} socket
 * @param {'always' | 'auto'} cache
 * @param {(why: string) => void} onEnd
 */
async function startServer(folder, socket, cache, onEnd) {
  // The sandbox by chroot works inside containers, where one by mount namespaces may not.
  const options = ['-o', 'sandbox=chroot', '-o', `cache=${cache}`, '-o', `source=${folder}`];
  const server = spawn('setpriv', ['--pdeathsig', 'KILL', VIRTIOFSD, `--socket-path=${socket}`, ...options], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let printed = '';
  server.stderr?.on('data', (chunk) => {
    printed = (printed + chunk).slice(-2000);
  });
  const ended = new Promise((resolve) => {
    server.on('error', resolve);
    server.on('exit', resolve);
  });
  server.on('close', (code, signal) => onEnd(`${signal ?? `exit code ${code}`} ${printed}`));
  for (let turn = 0; turn < START_SECONDS * 50; turn++) {
    if (listens(socket)) return server;
    const pause = new Promise((resolve) => setTimeout(resolve, 20, 'waiting'));
    if ((await Promise.race([ended, pause])) !== 'waiting') break;
  }
  server.kill('SIGKILL');
  throw new Failure(`virtiofsd does not start for ${folder}: ${printed}`);
}
