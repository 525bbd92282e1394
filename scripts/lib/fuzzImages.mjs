/** Small images of every format, which disk_image_fuzz takes apart. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './exec.mjs';
import { BUILD } from './paths.mjs';

const FOLDER = path.join(BUILD, 'fuzz-images');

/**
 * @typedef {object} Image
 * @property {string} name
 * @property {readonly string[]} create arguments of qemu-img
 * @property {string} size
 * @property {string} [content] what is written into it
 * @property {readonly string[]} [afterwards]
 */

/** @type {readonly Image[]} */
const IMAGES = [
  { name: 'plain.qcow2', create: ['-f', 'qcow2', '-o', 'cluster_size=4k'], size: '2M', content: '0 64k' },
  { name: 'v2.qcow2', create: ['-f', 'qcow2', '-o', 'compat=0.10,cluster_size=512'], size: '256k' },
  {
    name: 'lazy.qcow2',
    create: ['-f', 'qcow2', '-o', 'cluster_size=512,lazy_refcounts=on,refcount_bits=1'],
    size: '512k',
    content: '100k 9k',
  },
  { name: 'subclusters.qcow2', create: ['-f', 'qcow2', '-o', 'extended_l2=on'], size: '2M' },
  {
    name: 'snapshot.qcow2',
    create: ['-f', 'qcow2', '-o', 'cluster_size=4k'],
    size: '1M',
    content: '0 32k',
    afterwards: ['snapshot', '-c', 'one'],
  },
  { name: 'dynamic.vhdx', create: ['-f', 'vhdx', '-o', 'block_size=1M'], size: '4M', content: '1M 64k' },
  { name: 'fixed.vhd', create: ['-f', 'vpc', '-o', 'subformat=fixed,force_size=on'], size: '256k' },
  { name: 'plain.raw', create: ['-f', 'raw'], size: '256k' },
];

/** Compressed clusters, which only a conversion makes. */
const COMPRESSIONS = ['zlib', 'zstd'];

/**
 * Makes those that are missing, with qemu-img.
 *
 * @returns {Promise<string>} their folder
 */
export async function fuzzImages() {
  fs.mkdirSync(FOLDER, { recursive: true });
  const at = (/** @type {string} */ name) => path.join(FOLDER, name);
  for (const { name, create, size, content, afterwards } of IMAGES) {
    if (fs.existsSync(at(name))) continue;
    const format = String(create[1]);
    const unfinished = at(`${name}.new`);
    await run('qemu-img', ['create', '-q', ...create, unfinished, size]);
    if (content) await run('qemu-io', ['-f', format, '-c', `write -P 0x5a ${content}`, unfinished]);
    if (afterwards) await run('qemu-img', [...afterwards, unfinished]);
    fs.renameSync(unfinished, at(name));
  }
  for (const compression of COMPRESSIONS) {
    const name = `${compression}.qcow2`;
    if (fs.existsSync(at(name))) continue;
    const unfinished = at(`${name}.new`);
    const options = `cluster_size=16k,compression_type=${compression}`;
    await run('qemu-img', ['convert', '-c', '-O', 'qcow2', '-o', options, at('plain.qcow2'), unfinished]);
    fs.renameSync(unfinished, at(name));
  }
  return FOLDER;
}
