/** Folders of this machine inside the lab, by virtiofs: the stock cloud kernel has no 9p. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
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
 * @returns {Promise<{args: string[], stop: () => void}>} arguments for QEMU, and what ends the servers
 */
export async function startSharing(shares, work) {
  if (process.getuid?.() !== 0) throw new Failure('the lab shares folders by virtiofsd, which needs root');
  /** @type {import('node:child_process').ChildProcess[]} */
  const servers = [];
  const stop = () => {
    for (const server of servers) server.kill('SIGKILL');
  };
  const args = [];
  for (const { tag, folder, steady } of shares) {
    if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
      stop();
      throw new Failure(`${folder} is no folder`);
    }
    const socket = path.join(work, `${tag}.sock`);
    servers.push(await startServer(folder, socket, steady ? 'always' : 'auto'));
    args.push('-chardev', `socket,id=${tag},path=${socket}`);
    args.push('-device', `vhost-user-fs-pci,chardev=${tag},tag=${tag}`);
  }
  return { args, stop };
}

/**
 * @param {string} folder
 * @param {string} socket
 * @param {'always' | 'auto'} cache
 */
async function startServer(folder, socket, cache) {
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
  for (let turn = 0; turn < START_SECONDS * 50; turn++) {
    if (fs.existsSync(socket)) return server;
    const pause = new Promise((resolve) => setTimeout(resolve, 20, 'waiting'));
    if ((await Promise.race([ended, pause])) !== 'waiting') break;
  }
  server.kill('SIGKILL');
  throw new Failure(`virtiofsd does not start for ${folder}: ${printed}`);
}
