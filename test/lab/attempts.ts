/**
 * Loaded before each file of this tier: says why an attempt failed that is made again, of which only the number is
 * told.
 */
import { afterEach } from 'vitest';

afterEach(({ task }) => {
  if (task.result?.state !== 'fail') return;
  const attempt = (task.result.retryCount ?? 0) + 1;
  console.error(`attempt ${attempt} of "${task.name}" failed: ${task.result.errors?.at(-1)?.message}`);
});
