/** The lab tests, in parts: an emulated host keeps a processor busy; there is one beside the other tiers, then two. */
import fs from 'node:fs';
import path from 'node:path';
import { labHost } from '../lab/hostImage.mjs';
import { run } from './exec.mjs';
import { nodeBin, ROOT } from './paths.mjs';
import { Failure, say } from './progress.mjs';
import { failure, sum, vitestArgs, vitestReport, vitestResults } from './testResults.mjs';

/** @typedef {import('./testResults.mjs').Results} Results */

/** Each costs a start of the lab, and the last one has the other processor idle. */
const PARTS = 6;

/** Begins when it is made. */
export class LabTier {
  #tier;
  #parts;
  #host;
  #first;
  #taken = 0;

  /** @param {string} tier its name, which is that of its folder in test/ */
  constructor(tier) {
    this.#tier = tier;
    this.#parts = partsOf(testFiles(`test/${tier}`), PARTS);
    for (const index of this.#parts.keys()) fs.rmSync(vitestReport(this.#reportOf(index)), { force: true });
    // Made once, before two processes ask for it at the same time.
    this.#host = labHost().then(
      () => undefined,
      (error) => failure('the lab host', error instanceof Failure ? error.message : String(error.stack)),
    );
    this.#first = this.#takeParts();
  }

  /** @returns {Promise<Results>} of all of it; from now on there are two emulated hosts */
  async finish() {
    const broken = await this.#host;
    if (broken) return broken;
    return sum(...(await Promise.all([this.#first, this.#takeParts()])));
  }

  /** @returns {Promise<Results>} of what this host, one of two, did */
  async #takeParts() {
    if (await this.#host) return sum();
    const results = [];
    while (this.#taken < this.#parts.length) results.push(await this.#runPart(this.#taken++));
    return sum(...results);
  }

  /** @param {number} index */
  async #runPart(index) {
    const title = `${this.#tier} tests, part ${index + 1} of ${this.#parts.length}`;
    const files = this.#parts[index] ?? [];
    say(`> ${title}, begins beside others: ${files.map((file) => path.basename(file)).join(' ')}`);
    const report = this.#reportOf(index);
    try {
      const args = [...vitestArgs(this.#tier, report), ...files];
      const { code, output } = await run(nodeBin('vitest'), args, { cwd: ROOT, okToFail: true });
      say(`> ${title}`);
      process.stdout.write(output);
      return vitestResults(vitestReport(report), code);
    } catch (error) {
      return failure(title, /** @type {Error} */ (error).message);
    }
  }

  /** @param {number} index of a part */
  #reportOf(index) {
    return `${this.#tier}-${index + 1}`;
  }
}

/**
 * @param {string} folder
 * @returns {TestFile[]}
 */
function testFiles(folder) {
  return fs
    .readdirSync(path.join(ROOT, folder))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `${folder}/${name}`)
    .map((name) => ({ name, size: fs.statSync(path.join(ROOT, name)).size }));
}

/**
 * @typedef {object} TestFile
 * @property {string} name
 * @property {number} size in bytes, by which one may guess how long it takes
 */

/**
 * Parts that take about as long as each other, the longest first.
 *
 * @param {readonly TestFile[]} files
 * @param {number} count
 * @returns {string[][]}
 */
export function partsOf(files, count) {
  /** @type {{names: string[], size: number}[]} */
  const parts = Array.from({ length: Math.min(count, files.length) }, () => ({ names: [], size: 0 }));
  for (const { name, size } of files.toSorted((a, b) => b.size - a.size)) {
    const smallest = parts.reduce((least, one) => (one.size < least.size ? one : least));
    smallest.names.push(name);
    smallest.size += size;
  }
  return parts.sort((a, b) => b.size - a.size).map(({ names }) => names);
}
