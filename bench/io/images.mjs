/** Disk images of known content, and whether they have the content that they should have after a run. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { findCommand } from '../lib/findCommand.mjs';

export class Images {
  /** Content that nobody has written yet. */
  #seed = 1;
  /** @type {Map<string, number>} the seeds of images that are as they were made */
  #clean = new Map();

  /**
   * @param {string} helper bench/host
   * @param {string} folder
   * @param {number} bytes size of each image
   */
  constructor(helper, folder, bytes) {
    this.helper = helper;
    this.bytes = bytes;
    this.folder = folder;
  }

  /**
   * An image that nobody has written to since it was made.
   *
   * @param {import('./cases/cases.mjs').Disk} disk
   * @returns {Promise<{path: string, seed: number}>}
   */
  async prepare({ format, direct }) {
    const name = path.join(this.folder, direct ? 'direct' : 'cached');
    const file = `${name}.${format}`;
    const known = this.#clean.get(file);
    if (known !== undefined) return { path: file, seed: known };
    const seed = this.#seed;
    this.#seed += 2;
    const raw = `${name}.raw`;
    await run(this.helper, ['image', raw, `${this.bytes}`, `${seed}`, '--sync', direct ? '1' : '0']);
    if (format !== 'raw') {
      const converted = `${name}.converted`;
      await run(qemuImg(), ['convert', '-O', format, raw, converted]);
      await run(this.helper, ['repage', converted, file]);
      fs.rmSync(converted);
      this.#clean.set(raw, seed);
    }
    this.#clean.set(file, seed);
    return { path: file, seed };
  }

  /** @param {string} file */
  isClean(file) {
    return this.#clean.has(file);
  }

  /** @param {string} file */
  written(file) {
    this.#clean.delete(file);
  }

  /**
   * What is wrong with an image that a run has written to; undefined if nothing is.
   *
   * @param {string} file
   * @param {'raw' | 'qcow2'} format
   * @param {number} seed
   * @param {number} distinctUnits how many units of 4 KiB the guest says it has written
   * @returns {Promise<string | undefined>}
   */
  async faults(file, format, seed, distinctUnits) {
    if (format !== 'raw') {
      const { code, output } = await run(qemuImg(), ['check', '-f', format, file], { okToFail: true });
      return code === 0 ? undefined : `qemu-img check: ${output.trim()}`;
    }
    const { stdout } = await run(this.helper, ['check', file, `${seed}`]);
    const [, written = '', other = ''] = /written (\d+)\nother (\d+)/.exec(stdout) ?? [];
    if (Number(written) === distinctUnits && Number(other) === 0) return undefined;
    return `the guest wrote ${distinctUnits} units; ${written} have what it wrote, ${other} something else`;
  }

  /** Whether images of this format can be made here; why not, otherwise. @param {string} format */
  static missing(format) {
    return format === 'raw' || findCommand('qemu-img')
      ? undefined
      : `qemu-img, which makes ${format} images, is not installed`;
  }

  remove() {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

function qemuImg() {
  const file = findCommand('qemu-img');
  if (!file) throw new Failure('qemu-img is not installed');
  return file;
}
