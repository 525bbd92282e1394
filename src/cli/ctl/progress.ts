/** Says that something goes on, to people at a terminal. */

/** What is over sooner needs no word. */
const FIRST_MS = 400;
const INTERVAL_MS = 200;
/** Back to the line's beginning, and what is there is erased. */
const CLEAR = '\r\x1b[K';

/** @param doing such as `Booting` @returns ends it, and leaves nothing on the screen */
export function showProgress(doing: string): () => void {
  const { stderr } = process;
  if (!stderr.isTTY || process.env.TERM === 'dumb') return () => {};
  const start = performance.now();
  let shown = false;
  const timer = setInterval(() => {
    const ms = performance.now() - start;
    if (ms < FIRST_MS) return;
    shown = true;
    stderr.write(`${CLEAR}${doing}, ${(ms / 1000).toFixed(1)} s (Ctrl-C: wait no longer)`);
  }, INTERVAL_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    if (shown) stderr.write(CLEAR);
  };
}
