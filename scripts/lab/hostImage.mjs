/** The lab host's own system: a disk image with Node.js, the stock kernel's modules, the agent and the stock guest. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { madeFolder } from '../lib/madeFolder.mjs';
import { ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE, ROOT } from '../lib/paths.mjs';
import { digestOf, filesBelow } from '../lib/stamp.mjs';
import { stockGuest } from './guest.mjs';
import { makeDisk, makeInitramfs } from './images.mjs';
import { moduleFiles, stockKernel } from './kernel.mjs';
import { HOST_TOOLS, librariesOf, toolFiles } from './tools.mjs';
import { buildAgent } from './workshop.mjs';

/** What the initramfs needs to reach the disk. */
const BOOT_MODULES = ['virtio_pci', 'virtio_blk'];

const DISK_MEGABYTES = 512;

/** Everything that the host's image is made of, besides the kernel, Node.js and the guest. */
const RECIPES = [
  'host/',
  'agent.c',
  ...['cpio', 'hostImage', 'images', 'kernel', 'standIn', 'tools', 'workshop'].map((name) => `${name}.mjs`),
].map((name) => `scripts/lab/${name}`);

/** For what must work without privileges; "nobody" is who passt becomes when root starts it. */
const USERS = [
  'somebody:x:1000:1000:somebody:/tmp:/bin/sh\n',
  'nobody:x:65534:65534:nobody:/:/bin/sh\n',
].join('');

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
  const versions = `${kernel.release} ${process.version} ${path.basename(guest.folder)}`;
  const digest = digestOf(filesBelow(RECIPES), versions).slice(0, 16);
  const folder = path.join(CACHE, `lab-${digest}`);
  await madeFolder(folder, 'making the lab host', async (fresh) => {
    await ensureDebianPackages(['build', 'guest']);
    const { initramfs, disk } = hostIn(fresh, kernel);
    const modules = moduleFiles(kernel.modules, BOOT_MODULES);
    fs.writeFileSync(initramfs, await makeInitramfs(path.join(here, 'host/initramfsInit'), modules));
    await makeDisk(disk, DISK_MEGABYTES, path.join(here, 'host/init'), (root) =>
      fillDisk(root, kernel, guest),
    );
  });
  return hostIn(folder, kernel);
}

/**
 * @param {string} folder
 * @param {import('./kernel.mjs').Kernel} kernel
 * @returns {LabHost}
 */
function hostIn(folder, kernel) {
  return {
    kernel: kernel.bzImage,
    initramfs: path.join(folder, 'initramfs'),
    disk: path.join(folder, 'disk.img'),
  };
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
  const node = fs.realpathSync(process.execPath);
  const libraries = await librariesOf(node);
  copyInto(root, [
    { name: 'usr/bin/node', source: node },
    ...[...libraries].map(([name, source]) => ({ name, source })),
  ]);
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-tools-'));
  try {
    copyInto(root, await toolFiles(HOST_TOOLS, work));
  } finally {
    fs.rmSync(work, { recursive: true });
  }
  fs.appendFileSync(path.join(root, 'etc/passwd'), USERS);
  fs.writeFileSync(path.join(root, 'etc/hosts'), '127.0.0.1 localhost\n');
  await buildAgent(path.join(root, 'sbin/agent'));
}

/**
 * @param {string} root
 * @param {readonly import('./tools.mjs').ImageFile[]} files
 */
function copyInto(root, files) {
  for (const { name, source } of files) {
    const copy = path.join(root, name);
    fs.mkdirSync(path.dirname(copy), { recursive: true });
    fs.rmSync(copy, { force: true });
    fs.copyFileSync(source, copy);
    fs.chmodSync(copy, 0o755);
  }
}
