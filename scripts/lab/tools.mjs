/** Programs from Debian packages for the lab's images, each with the libraries that it loads. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { ensureDebianPackages } from '../lib/packages.mjs';
import { Failure } from '../lib/progress.mjs';
import { unpackedWithLibraries } from './debs.mjs';
import { makeStandIn, STAND_INS } from './standIn.mjs';

/** Package -> its programs: what tests run inside the stock guest. */
export const GUEST_TOOLS = {
  fio: ['usr/bin/fio'],
  iperf3: ['usr/bin/iperf3'],
  'iputils-ping': ['bin/ping'],
  socat: ['usr/bin/socat'],
  iproute2: ['bin/ip', 'bin/ss'],
  ethtool: ['sbin/ethtool'],
  'util-linux': ['sbin/blkdiscard'],
  e2fsprogs: ['sbin/mke2fs', 'sbin/e2fsck'],
};

/** Package -> its programs: what tests run beside the VMM. */
export const HOST_TOOLS = {
  passt: ['usr/bin/passt', 'usr/bin/passt.avx2'],
  iperf3: ['usr/bin/iperf3'],
  'iputils-ping': ['bin/ping'],
  socat: ['usr/bin/socat'],
  curl: ['usr/bin/curl'],
  'openssh-client': ['usr/bin/ssh'],
  // Busybox's holds a pipe's lock while it waits for a terminal (sendfile), and whoever reads the pipe waits, too.
  coreutils: ['bin/cat'],
  iproute2: ['bin/ip', 'bin/ss', 'sbin/tc', 'sbin/bridge'],
  'util-linux': ['usr/bin/setpriv'],
  'qemu-utils': ['usr/bin/qemu-img', 'usr/bin/qemu-io'],
  e2fsprogs: ['sbin/mke2fs', 'sbin/e2fsck'],
};

/**
 * The shell of both: one that runs the programs in PATH, where busybox's prefers its own. `#!/bin/sh` stays busybox.
 */
const SHELL = 'bin/dash';

/** Where the dynamic linker looks for libraries, and is itself. */
const LIBRARIES = 'lib/x86_64-linux-gnu';
const LOADER = 'lib64/ld-linux-x86-64.so.2';

/**
 * @typedef {object} ImageFile
 * @property {string} name in the image, without a leading slash
 * @property {string} source
 */

/**
 * @param {Readonly<Record<string, readonly string[]>>} tools package -> programs
 * @param {string} work folder for what has to be built; the files may lie in there
 * @returns {Promise<ImageFile[]>}
 */
export async function toolFiles(tools, work) {
  await ensureDebianPackages(['build']);
  const all = { ...tools, dash: [SHELL] };
  const folders = await unpackedWithLibraries(Object.keys(all), Object.keys(STAND_INS));
  // All into the first folder of PATH, before busybox's commands of the same names.
  const programs = Object.entries(all).flatMap(([name, files]) =>
    files.map((file) => ({
      name: `usr/bin/${file === SHELL ? 'sh' : path.basename(file)}`,
      source: path.join(String(folders.get(name)), file),
    })),
  );
  const standIn = path.join(work, 'standIn');
  for (const { source } of programs) await makeStandIn(source, standIn);
  const search = [standIn, ...[...folders.values()].flatMap(libraryFolders)].join(':');
  const libraries = new Map();
  for (const { source } of programs) {
    for (const [name, file] of await librariesOf(source, search)) libraries.set(name, file);
  }
  return [...programs, ...[...libraries].map(([name, source]) => ({ name, source }))];
}

/**
 * @param {string} root of an unpacked package
 * @returns {string[]}
 */
function libraryFolders(root) {
  return ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu']
    .map((folder) => path.join(root, folder))
    .filter((folder) => fs.existsSync(folder));
}

/**
 * The shared libraries that a program loads, with the loader.
 *
 * @param {string} program
 * @param {string} search folders that go before this machine's own, separated by colons
 * @returns {Promise<Map<string, string>>} name in an image -> file here
 */
export async function librariesOf(program, search = '') {
  const { stdout } = await run('ldd', [program], { env: search ? { LD_LIBRARY_PATH: search } : {} });
  const missing = stdout.match(/(\S+) => not found/);
  if (missing) throw new Failure(`${program} needs ${missing[1]}, which no package brought`);
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const [, name, file] of stdout.matchAll(/^\s*(?:(\S+) => )?(\/\S+) \(0x/gm)) {
    found.set(name ? `${LIBRARIES}/${path.basename(name)}` : LOADER, String(file));
  }
  return found;
}
