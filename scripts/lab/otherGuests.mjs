/**
 * Guests besides the stock one: Debian's other kernels, each with an initramfs of ours, its installer and memtest86+.
 */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { CACHE, ROOT } from '../lib/paths.mjs';
import { Failure, step } from '../lib/progress.mjs';
import { digestOf, filesBelow } from '../lib/stamp.mjs';
import { unpackedDeb } from './debs.mjs';
import { busybox, makeInitramfs } from './images.mjs';
import { KERNEL_PACKAGE, kernelIn, moduleFiles, moduleName } from './kernel.mjs';
import { makeWorkshop } from './workshop.mjs';

const OLDER_PCS = { suite: 'bookworm', architecture: 'i386' };
const BACKPORTS = { suite: 'bookworm-backports', architecture: 'amd64' };

/**
 * The package that stands for the newest kernel of its kind, and where it is if not in this machine's suites.
 *
 * Not `linux-image-686-pae`: QEMU's emulation marks entries of a PAE guest's page directory pointer table as accessed
 * (bit 5, which is reserved there), and KVM in the lab, which checks them, answers the kernel's first write of CR4 with
 * #GP. The kernel has no console yet, and is silent.
 *
 * @type {Record<string, {name: string, archive?: import('./debs.mjs').Archive}>}
 */
const KERNELS = {
  generic: { name: 'linux-image-amd64' },
  rt: { name: 'linux-image-rt-amd64' },
  686: { name: 'linux-image-686', archive: OLDER_PCS },
  backports: { name: 'linux-image-cloud-amd64', archive: BACKPORTS },
};

/** Drivers that are modules in some of these kernels and built into others. */
const MODULES = ['virtio_iommu', 'virtio_pci', 'virtio_blk', 'virtio_net', 'button', 'evdev'];

/** Where those and what they depend on are: a kernel's package has 400 MB of others. */
const KERNEL_FILES = [
  './boot/vmlinuz-*',
  ...[
    'drivers/virtio/*',
    'drivers/iommu/virtio-iommu*',
    'drivers/block/virtio_blk*',
    'drivers/net/virtio_net*',
    'drivers/net/net_failover*',
  ],
  ...['net/core/failover*', 'drivers/acpi/button*', 'drivers/input/evdev*'],
].map((name) => (name.startsWith('./') ? name : `./lib/modules/*/kernel/${name}`));

/**
 * What Linux is told so that the lab's emulation carries it.
 *
 * QEMU before 8.0 makes the flags that `cmpxchg16b` leaves out of what may be no flags: an address, say, in which bits
 * are set that are harmless until a guest is interrupted and entered again with them (NT, VM). Linux 6.12 uses the
 * instruction all the time, and most of its boots broke in the first `iret` afterwards.
 */
export const IN_EMULATION = 'clearcpuid=cx16';

const INSTALLER = 'usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64';

/** Everything that the guests' files are made of, besides the packages. */
const RECIPES = [
  'guest/',
  'agent.c',
  ...['cpio', 'images', 'kernel', 'otherGuests', 'standIn', 'tools', 'workshop'].map((name) => `${name}.mjs`),
].map((name) => `scripts/lab/${name}`);

/**
 * @typedef {object} OtherGuest
 * @property {string} kernel
 * @property {string} [initramfs]
 */

/** Names of the kernels that `otherKernel` knows. */
export const OTHER_KERNELS = Object.keys(KERNELS);

/**
 * One of Debian's other kernels with the stock guest's small system around it.
 *
 * @param {string} name one of `OTHER_KERNELS`
 * @returns {Promise<OtherGuest>}
 */
export function otherKernel(name) {
  return guestOf(name, 'initramfs', async () => Buffer.alloc(0));
}

/**
 * The same with the tools and the agent of the stock guest's workshop, for `LabGuest`. Its drivers are `MODULES`.
 *
 * @param {string} name one of `OTHER_KERNELS`
 * @returns {Promise<OtherGuest>}
 */
export function otherWorkshop(name) {
  return guestOf(name, 'workshop', (kernel) => makeWorkshop(kernel, []));
}

/**
 * @param {string} name
 * @param {string} kind of initramfs
 * @param {(kernel: import('./kernel.mjs').Kernel) => Promise<Buffer>} more what is behind it
 * @returns {Promise<OtherGuest>}
 */
async function guestOf(name, kind, more) {
  const wanted = KERNELS[name];
  if (!wanted) throw new Failure(`there is no kernel ${name} in scripts/lab/otherGuests.mjs`);
  const kernel = kernelIn(
    await unpackedDeb(wanted.name, {
      follow: KERNEL_PACKAGE,
      files: KERNEL_FILES,
      ...(wanted.archive && { archive: wanted.archive }),
    }),
  );
  const digest = digestOf(filesBelow(RECIPES), kernel.release).slice(0, 16);
  const initramfs = path.join(CACHE, `${kind}-${kernel.release}-${digest}`);
  if (!fs.existsSync(initramfs)) {
    await step(`making the ${kind} for Linux ${kernel.release}`, async () => {
      const init = path.join(ROOT, 'scripts/lab/guest/init');
      const shell = wanted.archive === OLDER_PCS ? await olderPcsBusybox() : await busybox();
      const modules = await plainModules(kernel.modules);
      const archives = [await makeInitramfs(init, modules, shell), await more(kernel)];
      fs.writeFileSync(`${initramfs}.${process.pid}`, Buffer.concat(archives));
      fs.renameSync(`${initramfs}.${process.pid}`, initramfs);
    });
  }
  return { kernel: kernel.bzImage, initramfs };
}

/** @returns {Promise<OtherGuest>} the network installer for text terminals */
export async function installer() {
  const folder = await unpackedDeb('debian-installer-12-netboot-amd64', { files: [`./${INSTALLER}/*`] });
  const file = (/** @type {string} */ name) => path.join(folder, INSTALLER, name);
  return { kernel: file('linux'), initramfs: file('initrd.gz') };
}

/** @returns {Promise<OtherGuest>} */
export async function memtest() {
  return { kernel: path.join(await unpackedDeb('memtest86+'), 'boot/memtest86+x64.bin') };
}

async function olderPcsBusybox() {
  return path.join(await unpackedDeb('busybox-static', { archive: OLDER_PCS }), 'bin/busybox');
}

/**
 * Files of the modules among `MODULES` that this kernel has, uncompressed.
 *
 * @param {string} folder a /lib/modules/RELEASE
 */
async function plainModules(folder) {
  const all = /** @type {string[]} */ (fs.readdirSync(folder, { recursive: true }));
  const packed = all.filter((name) => name.endsWith('.ko.xz')).map((name) => path.join(folder, name));
  if (packed.length > 0) await run('xz', ['-d', ...packed]);
  const names = new Set(all.filter((name) => /\.ko(\.xz)?$/.test(name)).map(moduleName));
  return moduleFiles(
    folder,
    MODULES.filter((name) => names.has(name)),
  );
}
