/**
 * Deadlines in the lab's own time. On a busy machine an emulated processor waits most of the time for one of the
 * machine's, and a guest that is slow for that reason is no guest that hangs.
 */
import fs from 'node:fs';

/**
 * For how long a process has waited for the machine's processors: milliseconds of its thread that waited longest, which
 * is that of the emulated processor. 0 if there is no such process any more, or the kernel does not say.
 *
 * @param {number} pid
 */
export function queuedMs(pid) {
  let longest = 0;
  try {
    for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
      // Nanoseconds on a processor, nanoseconds in the queue for one, and turns (Linux, scheduler/sched-stats.rst).
      const numbers = fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      longest = Math.max(longest, Number(numbers[1]) / 1e6);
    }
  } catch {
    // A thread that ends is not the one that counts.
  }
  return longest;
}

/**
 * A clock in milliseconds that stands still while a process waits for a processor. A process that sleeps does not, nor
 * does one that runs without end: every deadline by this clock passes.
 *
 * @param {number | undefined} pid
 * @returns {() => number}
 */
export function clockOf(pid) {
  let queued = 0;
  return () => {
    if (pid !== undefined) queued = Math.max(queued, queuedMs(pid));
    return performance.now() - queued;
  };
}

/**
 * @template T
 * @param {() => number} clock
 * @param {number} seconds by that clock
 * @param {Promise<T>} promise
 * @param {() => T | Promise<T>} late gives or throws what is to be instead of the promise's value
 * @returns {Promise<T>}
 */
export async function within(clock, seconds, promise, late) {
  const end = clock() + seconds * 1000;
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  /** @type {Promise<{late: true}>} */
  const timeout = new Promise((resolve) => {
    const look = () => {
      const left = end - clock();
      if (left > 0) timer = setTimeout(look, Math.ceil(left));
      else resolve({ late: true });
    };
    look();
  });
  try {
    const first = await Promise.race([
      promise.then((value) => ({ late: /** @type {false} */ (false), value })),
      timeout,
    ]);
    // From here on the promise has no say, whatever is done about it.
    return first.late ? await late() : first.value;
  } finally {
    clearTimeout(timer);
  }
}
