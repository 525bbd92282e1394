/** Keeps two commands from building the same thing at once. */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MILLISECONDS = 200;

/**
 * Runs `work` while no other process runs anything under the same lock file.
 *
 * @template T
 * @param {string} file
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(file, work) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  while (!take(file)) await sleep(POLL_MILLISECONDS);
  const release = () => fs.rmSync(file, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

/** @param {string} file */
function take(file) {
  try {
    fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
  }
  // Its owner may have been killed before it could let go.
  const owner = Number(fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : 0);
  if (owner && !fs.existsSync(`/proc/${owner}`)) fs.rmSync(file, { force: true });
  return false;
}
