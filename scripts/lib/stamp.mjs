/** Steps that are skipped when nothing they depend on has changed. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { withLock } from './lock.mjs';
import { BUILD, ROOT } from './paths.mjs';

/**
 * All files below the given files and folders (relative to the checkout's root), sorted. What does not exist is left
 * out.
 *
 * @param {readonly string[]} roots
 * @returns {string[]}
 */
export function filesBelow(roots) {
  /** @type {string[]} */
  const found = [];
  /** @param {string} file */
  const visit = (file) => {
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    if (stat?.isFile()) found.push(file);
    if (stat?.isDirectory()) for (const name of fs.readdirSync(file)) visit(path.join(file, name));
  };
  for (const root of roots) visit(path.resolve(ROOT, root));
  return found.sort();
}

/**
 * A digest of names and contents.
 *
 * @param {readonly string[]} files absolute paths
 * @param {string} [extra] anything else that the result depends on
 */
export function digestOf(files, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const file of files) hash.update(`\0${path.relative(ROOT, file)}\0`).update(fs.readFileSync(file));
  return hash.digest('hex');
}

/**
 * Runs `work` unless its inputs are what they were when it last succeeded and its outputs exist.
 *
 * @param {string} name of the stamp
 * @param {{inputs: readonly string[], outputs: readonly string[], extra?: string}} what inputs relative to the root
 * @param {() => Promise<unknown>} work
 * @returns {Promise<boolean>} whether it ran
 */
export async function unlessFresh(name, what, work) {
  const stamp = path.join(BUILD, 'stamps', name);
  return withLock(`${stamp}.lock`, async () => {
    const digest = digestOf(filesBelow(what.inputs), what.extra);
    const before = fs.existsSync(stamp) ? fs.readFileSync(stamp, 'utf8') : '';
    if (before === digest && what.outputs.every((file) => fs.existsSync(file))) return false;
    fs.rmSync(stamp, { force: true });
    await work();
    fs.writeFileSync(stamp, digest);
    return true;
  });
}
