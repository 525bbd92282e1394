/** The lab host's own system: a disk image with Node.js, the stock kernel's modules, the agent and the stock guest. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE, ROOT } from '../lib/paths.mjs';
import { step } from '../lib/progress.mjs';
import { digestOf } from '../lib/stamp.mjs';
import { stockGuest } from './guest.mjs';
import { makeDisk, makeInitramfs } from './images.mjs';
import { moduleFiles, stockKernel } from './kernel.mjs';

/** What the initramfs needs to reach the disk. */
const BOOT_MODULES = ['virtio_pci', 'virtio_blk'];

const DISK_MEGABYTES = 512;

/**
 * @typedef {object} LabHost
 * @property {string} kernel
 * @property {string} initramfs
 * @property {string} disk
 */

/** @returns {Promise<LabHost>} */
export async function labHost() {
  await ensureDebianPackages(['lab']);
  const kernel = await stockKernel();
  const guest = await stockGuest();
  const here = path.join(ROOT, 'scripts/lab');
  const parts = ['host/init', 'host/initramfsInit', 'agent.c', 'hostImage.mjs', 'images.mjs', 'cpio.mjs'];
  const versions = `${kernel.release} ${process.version} ${path.basename(guest.folder)}`;
  const digest = digestOf(
    parts.map((part) => path.join(here, part)),
    versions,
  ).slice(0, 16);
  const folder = path.join(CACHE, `lab-${digest}`);
  const host = (/** @type {string} */ at) => ({
    kernel: kernel.bzImage,
    initramfs: path.join(at, 'initramfs'),
    disk: path.join(at, 'disk.img'),
  });
  if (fs.existsSync(folder)) return host(folder);
  return step('making the lab host', async () => {
    await ensureDebianPackages(['build', 'guest']);
    const fresh = host(`${folder}.${process.pid}`);
    fs.mkdirSync(path.dirname(fresh.disk), { recursive: true });
    const archive = await makeInitramfs(
      path.join(here, 'host/initramfsInit'),
      moduleFiles(kernel.modules, BOOT_MODULES),
    );
    fs.writeFileSync(fresh.initramfs, archive);
    await makeDisk(fresh.disk, DISK_MEGABYTES, path.join(here, 'host/init'), (root) =>
      fillDisk(root, kernel, guest),
    );
    fs.renameSync(path.dirname(fresh.disk), folder);
    return host(folder);
  });
}

/**
 * @param {string} root
 * @param {import('./kernel.mjs').Kernel} kernel
 * @param {import('./guest.mjs').Guest} guest
 */
async function fillDisk(root, kernel, guest) {
  for (const share of ['tsvmm', 'share']) fs.mkdirSync(path.join(root, share));
  const modules = path.join(root, 'lib/modules', kernel.release);
  fs.cpSync(kernel.modules, modules, { recursive: true });
  await run(path.join(root, 'bin/busybox'), ['depmod', '-b', root, kernel.release]);
  fs.cpSync(guest.folder, path.join(root, 'guest'), { recursive: true });
  await copyProgram(root, fs.realpathSync(process.execPath), 'usr/bin/node');
  const agent = path.join(ROOT, 'scripts/lab/agent.c');
  const flags = ['-O1', '-Wall', '-Wextra', '-Werror', '-static'];
  await run('gcc', [...flags, '-o', path.join(root, 'sbin/agent'), agent, '-lutil']);
}

/**
 * Copies a program of this machine with the shared libraries that it loads.
 *
 * @param {string} root
 * @param {string} program
 * @param {string} name in the new system
 */
async function copyProgram(root, program, name) {
  const { stdout } = await run('ldd', [program]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((found) => String(found[1]));
  fs.copyFileSync(program, path.join(root, name));
  for (const library of libraries) {
    const copy = path.join(root, library);
    fs.mkdirSync(path.dirname(copy), { recursive: true });
    fs.copyFileSync(library, copy);
  }
}
