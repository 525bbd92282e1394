import { sleep } from './sleep.ts';

/**
 * Has this thread sleep for a moment. A thread that runs for long is not interrupted for another one of the same CPU
 * that it has overtaken, such as the one that answers clients, before the scheduler's next tick, which may be
 * milliseconds away. A turn of the event loop does not help: the thread goes on at once.
 */
export function giveWay(): Promise<void> {
  return sleep(1);
}
