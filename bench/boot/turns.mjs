/** Runs in the lab under a clock that counts instructions: everybody in turn, and a run that fails ends nothing. */
import { openLab } from '../../scripts/lab/lab.mjs';
import { Failure, step } from '../../scripts/lib/progress.mjs';

/** Real time within which a lab that is alive answers. */
const ANSWER_SECONDS = 30;

/** @typedef {import('../../scripts/lab/lab.mjs').Lab} Lab */

/**
 * @template {{name: string}} T
 * @typedef {object} Turns
 * @property {string} share folder that the lab sees at /share
 * @property {import('../lib/results.mjs').Results} results
 * @property {readonly T[]} contenders
 * @property {number} rounds
 * @property {boolean} warmUp one round more, whose figures are not recorded: it fills the lab host's page cache
 * @property {string} title
 * @property {(lab: Lab, one: T) => Promise<() => void>} run one run; what it returns records its figures
 */

/**
 * @template {{name: string}} T
 * @param {Turns<T>} turns
 */
export async function takeTurns({ share, results, contenders, rounds, warmUp, title, run }) {
  let lab = await openCountingLab(share);
  try {
    await step(`${title}, ${rounds} rounds`, async (detail) => {
      for (let round = warmUp ? -1 : 0; round < rounds; round++) {
        for (const one of contenders) {
          const when = round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`;
          detail(`${when}, ${one.name}`);
          const well = await attempt(results, `${one.name}, ${when}`, async () => {
            const record = await run(lab, one);
            if (round >= 0) record();
          });
          if (well || (await answers(lab))) continue;
          results.notes.push(`the lab had to be started anew after ${one.name}, ${when}`);
          await lab.close();
          lab = await openCountingLab(share);
        }
      }
    });
  } finally {
    await lab.close();
  }
}

/**
 * A run that fails is a result, too.
 *
 * @param {import('../lib/results.mjs').Results} results
 * @param {string} subject
 * @param {() => Promise<void>} work
 * @returns {Promise<boolean>} whether it went well
 */
export async function attempt(results, subject, work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    results.fail(subject, error.message);
    return false;
  }
}

/** @param {string} share */
function openCountingLab(share) {
  return step('booting the lab host, counting instructions', () => openLab({ share, icount: true }));
}

/** @param {Lab} lab */
async function answers(lab) {
  try {
    return (await lab.run(['/bin/true'], { timeoutSeconds: ANSWER_SECONDS })).code === 0;
  } catch {
    return false;
  }
}
