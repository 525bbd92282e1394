/** Initramfs archives and disk images with a busybox system in them. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import {
  CHARACTER_DEVICE,
  cpioArchive,
  DIRECTORY,
  EXECUTABLE_FILE,
  PLAIN_FILE,
  SYMBOLIC_LINK,
} from './cpio.mjs';
import { unpackedDeb } from './debs.mjs';

/** Folders that every system has. */
const FOLDERS = [
  'bin',
  'sbin',
  'dev',
  'proc',
  'sys',
  'tmp',
  'run',
  'root',
  'etc',
  'modules',
  'lib',
  'usr',
  'usr/bin',
];

/** @returns {Promise<string>} the path of a static busybox */
export async function busybox() {
  return path.join(await unpackedDeb('busybox-static'), 'bin/busybox');
}

/**
 * The commands of a busybox. It runs here too: same architecture, and static.
 *
 * @param {string} file
 * @returns {Promise<string[]>}
 */
async function applets(file) {
  const { stdout } = await run(file, ['--list']);
  return stdout.split('\n').filter((name) => name && name !== 'busybox');
}

/**
 * An initramfs with busybox, these modules (listed in load order in /modules/order) and `init` as its first process.
 *
 * @param {string} init path of the script
 * @param {readonly string[]} modules paths
 * @param {string} [shell] a busybox for the guest, of the same version as this machine's
 * @returns {Promise<Buffer>}
 */
export async function makeInitramfs(init, modules, shell) {
  const own = await busybox();
  const file = (/** @type {string} */ name, /** @type {number} */ mode, /** @type {string} */ source) => ({
    name,
    mode,
    content: fs.readFileSync(source),
  });
  const order = modules.map((module) => `${path.basename(module)}\n`).join('');
  return cpioArchive([
    ...FOLDERS.map((name) => ({ name, mode: DIRECTORY })),
    { name: 'dev/console', mode: CHARACTER_DEVICE, device: [5, 1] },
    { name: 'dev/null', mode: CHARACTER_DEVICE, device: [1, 3] },
    file('init', EXECUTABLE_FILE, init),
    file('bin/busybox', EXECUTABLE_FILE, shell ?? own),
    ...(await applets(own)).map((name) => ({
      name: `bin/${name}`,
      mode: SYMBOLIC_LINK,
      content: Buffer.from('busybox'),
    })),
    ...modules.map((module) => file(`modules/${path.basename(module)}`, PLAIN_FILE, module)),
    { name: 'modules/order', mode: PLAIN_FILE, content: Buffer.from(order) },
  ]);
}

/**
 * An archive of these files, to follow an initramfs in the same file: Linux unpacks one after the other.
 *
 * @param {readonly {name: string, source: string}[]} files
 * @returns {Buffer}
 */
export function moreFiles(files) {
  const folders = new Set(files.flatMap(({ name }) => parents(name)));
  return cpioArchive([
    ...[...folders].map((name) => ({ name, mode: DIRECTORY })),
    ...files.map(({ name, source }) => ({
      name,
      mode: EXECUTABLE_FILE,
      content: fs.readFileSync(source),
    })),
  ]);
}

/** @param {string} name */
function parents(name) {
  const words = name.split('/').slice(0, -1);
  return words.map((_, index) => words.slice(0, index + 1).join('/'));
}

/**
 * An ext4 image with busybox, `init` as /sbin/init and whatever `fill` puts into its root folder.
 *
 * @param {string} image path to write
 * @param {number} megabytes
 * @param {string} init path of the script
 * @param {(root: string) => Promise<void>} fill
 */
export async function makeDisk(image, megabytes, init, fill) {
  const shell = await busybox();
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-disk-'));
  try {
    fs.chmodSync(root, 0o755);
    for (const folder of FOLDERS) if (folder !== 'modules') fs.mkdirSync(path.join(root, folder));
    fs.copyFileSync(shell, path.join(root, 'bin/busybox'));
    for (const name of await applets(shell)) fs.symlinkSync('busybox', path.join(root, 'bin', name));
    fs.copyFileSync(init, path.join(root, 'sbin/init'));
    fs.chmodSync(path.join(root, 'sbin/init'), 0o755);
    fs.writeFileSync(path.join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    fs.writeFileSync(path.join(root, 'etc/group'), 'root:x:0:\n');
    await fill(root);
    fs.rmSync(image, { force: true });
    // All of it now: a kernel that did the rest later would be in the middle of it when the guest powers off at once.
    const complete = ['-E', 'lazy_itable_init=0,lazy_journal_init=0'];
    await run('mke2fs', ['-q', '-t', 'ext4', ...complete, '-d', root, image, `${megabytes}M`]);
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}
