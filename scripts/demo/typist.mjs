/** Types a script into a guest's shell, a line at a time, as a person would: when the prompt is there. */
import { Failure } from '../lib/progress.mjs';

/** What the stock guest's shell shows when it waits. */
const PROMPT = 'guest# ';

/** How long the guest may say nothing. */
const QUIET_SECONDS = 120;

/**
 * @param {import('./session.mjs').Session} session
 * @param {readonly string[]} lines the last of which ends the guest
 * @param {(text: string) => void} show
 * @returns {Promise<number>} the command's exit code
 */
export async function typeScript(session, lines, show) {
  const waiting = [...lines];
  let unread = '';
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  /** @type {Promise<never>} */
  const silence = new Promise((_, reject) => {
    const restart = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        session.kill();
        reject(new Failure(`the guest has said nothing for ${QUIET_SECONDS} s`));
      }, QUIET_SECONDS * 1000);
    };
    restart();
    session.onOutput((text) => {
      restart();
      show(text);
      unread = (unread + text).slice(-4096);
      if (!unread.includes(PROMPT) || waiting.length === 0) return;
      unread = '';
      session.write(`${waiting.shift()}\n`);
    });
  });
  try {
    const code = await Promise.race([session.exited, silence]);
    if (waiting.length) throw new Failure(`the guest ended (exit code ${code}) before it had a shell`);
    return code;
  } finally {
    clearTimeout(timer);
  }
}
