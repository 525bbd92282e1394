/** The stock Linux guest: Debian's kernel with a small busybox system, as an initramfs and as a disk. */
import fs from 'node:fs';
import path from 'node:path';
import { madeFolder } from '../lib/madeFolder.mjs';
import { ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE, ROOT } from '../lib/paths.mjs';
import { digestOf, filesBelow } from '../lib/stamp.mjs';
import { makeDisk, makeInitramfs } from './images.mjs';
import { extractVmlinux, moduleFiles, stockKernel } from './kernel.mjs';
import { makeWorkshop } from './workshop.mjs';

/** Drivers that the stock kernel has as modules and our devices need, `evdev` and `button` for the power button. */
const GUEST_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_console', 'virtio_rng', 'button', 'evdev'];

/** Drivers that the system on the disk loads: the initramfs, whose start is measured, has no network. */
const NETWORK_MODULES = ['virtio_net'];

/** Everything that the guest's files are made of, besides the kernel. */
const RECIPES = [
  'guest/',
  'agent.c',
  ...['cpio', 'guest', 'images', 'kernel', 'standIn', 'tools', 'workshop'].map((name) => `${name}.mjs`),
].map((name) => `scripts/lab/${name}`);

const GUEST_DISK_MEGABYTES = 32;

/**
 * @typedef {object} Guest
 * @property {string} folder that holds nothing but the following five
 * @property {string} bzImage
 * @property {string} vmlinux the same kernel as an ELF file with a PVH entry
 * @property {string} initramfs
 * @property {string} workshop an initramfs with tools, more drivers and the agent
 * @property {string} disk an ext4 root file system
 */

/** @returns {Promise<Guest>} */
export async function stockGuest() {
  const kernel = await stockKernel();
  const init = path.join(ROOT, 'scripts/lab/guest/init');
  const digest = digestOf(filesBelow(RECIPES), kernel.release).slice(0, 16);
  const guest = guestIn(path.join(CACHE, `guest-${kernel.release}-${digest}`));
  await madeFolder(guest.folder, 'making the stock guest', async (folder) => {
    await ensureDebianPackages(['guest']);
    const fresh = guestIn(folder);
    fs.copyFileSync(kernel.bzImage, fresh.bzImage);
    fs.writeFileSync(fresh.vmlinux, extractVmlinux(fs.readFileSync(kernel.bzImage)));
    const initramfs = await makeInitramfs(init, moduleFiles(kernel.modules, GUEST_MODULES));
    fs.writeFileSync(fresh.initramfs, initramfs);
    fs.writeFileSync(fresh.workshop, Buffer.concat([initramfs, await makeWorkshop(kernel)]));
    await makeDisk(fresh.disk, GUEST_DISK_MEGABYTES, init, async (root) => {
      fs.writeFileSync(path.join(root, 'etc/motd'), 'This file is on the disk.\n');
      const loaded = moduleFiles(kernel.modules, GUEST_MODULES);
      const network = moduleFiles(kernel.modules, NETWORK_MODULES);
      addNetwork(
        root,
        network.filter((file) => !loaded.includes(file)),
      );
    });
  });
  return guest;
}

/**
 * @param {string} root
 * @param {readonly string[]} modules in the order in which they are loaded
 */
function addNetwork(root, modules) {
  const folder = path.join(root, 'lib/network');
  fs.mkdirSync(folder);
  for (const file of modules) fs.copyFileSync(file, path.join(folder, path.basename(file)));
  fs.writeFileSync(path.join(folder, 'order'), modules.map((file) => `${path.basename(file)}\n`).join(''));
  fs.copyFileSync(path.join(ROOT, 'scripts/lab/guest/dhcp.sh'), path.join(root, 'etc/dhcp.sh'));
  fs.chmodSync(path.join(root, 'etc/dhcp.sh'), 0o755);
}

/**
 * @param {string} folder
 * @returns {Guest}
 */
function guestIn(folder) {
  const file = (/** @type {string} */ name) => path.join(folder, name);
  return {
    folder,
    bzImage: file('bzImage'),
    vmlinux: file('vmlinux'),
    initramfs: file('initramfs'),
    workshop: file('workshop'),
    disk: file('disk.img'),
  };
}
