/** Folders of the cache, which several commands may want at once. */
import fs from 'node:fs';
import { withLock } from './lock.mjs';
import { step } from './progress.mjs';

/**
 * A folder that is there as a whole or not at all. One process makes it, others that want it meanwhile wait for that.
 *
 * @param {string} folder
 * @param {string} title
 * @param {(fresh: string) => Promise<unknown>} fill
 */
export async function madeFolder(folder, title, fill) {
  if (fs.existsSync(folder)) return folder;
  await withLock(`${folder}.lock`, async () => {
    if (fs.existsSync(folder)) return;
    const fresh = `${folder}.new`;
    fs.rmSync(fresh, { recursive: true, force: true });
    fs.mkdirSync(fresh);
    await step(title, () => fill(fresh));
    fs.renameSync(fresh, folder);
  });
  return folder;
}
