/** What tests of devices need inside the stock guest: tools, drivers, and the agent that runs commands for them. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { ROOT } from '../lib/paths.mjs';
import { busybox, moreFiles } from './images.mjs';
import { moduleFiles } from './kernel.mjs';
import { GUEST_TOOLS, toolFiles } from './tools.mjs';

/** Drivers that udev's stand-in in `guest/init` finds by the names of the devices that are there. */
const MODULES = [
  'virtio_net',
  'vmw_vsock_virtio_transport',
  'virtio_balloon',
  'virtio_mem',
  'virtio_pmem',
  'nd_pmem',
  'pvpanic_pci',
  'pvpanic_mmio',
  'ptp_kvm',
];

/**
 * An archive that goes behind a guest's initramfs.
 *
 * @param {import('./kernel.mjs').Kernel} kernel
 * @param {readonly string[]} modules beside those of the initramfs
 * @returns {Promise<Buffer>}
 */
export async function makeWorkshop(kernel, modules = MODULES) {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-workshop-'));
  try {
    const agent = path.join(work, 'agent');
    await buildAgent(agent);
    return moreFiles([
      { name: 'sbin/agent', source: agent },
      { name: 'etc/dhcp.sh', source: path.join(ROOT, 'scripts/lab/guest/dhcp.sh') },
      ...(await driverFiles(kernel, modules, path.join(work, 'drivers'))),
      ...(await toolFiles(GUEST_TOOLS, work)),
    ]);
  } finally {
    fs.rmSync(work, { recursive: true });
  }
}

/**
 * The drivers with the lists that modprobe reads.
 *
 * @param {import('./kernel.mjs').Kernel} kernel
 * @param {readonly string[]} modules
 * @param {string} root folder to work in
 */
async function driverFiles(kernel, modules, root) {
  const folder = `lib/modules/${kernel.release}`;
  fs.mkdirSync(path.join(root, folder), { recursive: true });
  for (const file of moduleFiles(kernel.modules, modules)) {
    fs.copyFileSync(file, path.join(root, folder, path.basename(file)));
  }
  await run(await busybox(), ['depmod', '-b', root, kernel.release]);
  const names = fs.readdirSync(path.join(root, folder)).map((name) => `${folder}/${name}`);
  return names.map((name) => ({ name, source: path.join(root, name) }));
}

/** @param {string} program path to write */
export async function buildAgent(program) {
  const source = path.join(ROOT, 'scripts/lab/agent.c');
  await run('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-static', '-o', program, source, '-lutil']);
}
