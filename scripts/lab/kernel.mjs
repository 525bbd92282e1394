/** Debian's stock cloud kernel: the lab's host kernel and the guests' too. */
import fs from 'node:fs';
import path from 'node:path';
import { Failure } from '../lib/progress.mjs';
import { unpackedDeb } from './debs.mjs';
import { decodeLegacyFrame } from './lz4.mjs';

/**
 * @typedef {object} Kernel
 * @property {string} release as `uname -r` prints it
 * @property {string} bzImage
 * @property {string} modules the folder /lib/modules/RELEASE of the package
 */

/** What Debian's packages that stand for the newest kernel of a kind depend on. */
export const KERNEL_PACKAGE = /linux-image-[0-9][^ \n]*/;

/** @returns {Promise<Kernel>} */
export async function stockKernel() {
  return kernelIn(await unpackedDeb('linux-image-cloud-amd64', { follow: KERNEL_PACKAGE }));
}

/**
 * @param {string} folder of an unpacked package
 * @returns {Kernel}
 */
export function kernelIn(folder) {
  const image = fs.readdirSync(path.join(folder, 'boot')).find((name) => name.startsWith('vmlinuz-'));
  if (!image) throw new Failure(`there is no kernel in ${folder}/boot`);
  const release = image.slice('vmlinuz-'.length);
  return {
    release,
    bzImage: path.join(folder, 'boot', image),
    modules: path.join(folder, 'lib/modules', release),
  };
}

/**
 * The ELF kernel inside a bzImage, which has the PVH entry note (Linux x86 boot protocol, payload_offset and
 * payload_length; the payload's last four bytes are the size of the ELF file).
 *
 * @param {Buffer} bzImage
 * @returns {Uint8Array}
 */
export function extractVmlinux(bzImage) {
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  const length = bzImage.readUInt32LE(0x24c);
  const payload = bzImage.subarray(start, start + length);
  return decodeLegacyFrame(payload, payload.readUInt32LE(length - 4));
}

/**
 * Files of the named modules and of all that they depend on, dependencies first.
 *
 * @param {string} folder a /lib/modules/RELEASE
 * @param {readonly string[]} names
 * @returns {string[]} absolute paths
 */
export function moduleFiles(folder, names) {
  const files = new Map(
    /** @type {string[]} */ (fs.readdirSync(path.join(folder, 'kernel'), { recursive: true }))
      .filter((file) => file.endsWith('.ko'))
      .map((file) => [moduleName(file), path.join(folder, 'kernel', file)]),
  );
  /** @type {Set<string>} */
  const ordered = new Set();
  const visit = (/** @type {string} */ name) => {
    const file = files.get(name);
    if (!file) throw new Failure(`the kernel has no module ${name}`);
    if (ordered.has(file)) return;
    for (const other of dependencies(file)) visit(other);
    ordered.add(file);
  };
  for (const name of names) visit(name);
  return [...ordered];
}

/** @param {string} file of a module, compressed or not */
export function moduleName(file) {
  return path
    .basename(file)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}

/**
 * What a module's .modinfo section says after `depends=`; no other tool is needed to read it.
 *
 * @param {string} file
 * @returns {string[]}
 */
function dependencies(file) {
  const bytes = fs.readFileSync(file);
  const at = bytes.indexOf('\0depends=');
  if (at < 0) return [];
  const start = at + '\0depends='.length;
  const text = bytes.toString('latin1', start, bytes.indexOf(0, start));
  return text
    .split(',')
    .filter(Boolean)
    .map((name) => name.replaceAll('-', '_'));
}
