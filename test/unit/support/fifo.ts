import { spawn, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { onTestFinished } from 'vitest';

/** Replaces what is there. Whoever waits for its writer gets one after a moment, and fails instead of hanging. */
export function makeFifo(path: string): void {
  rmSync(path, { force: true });
  const made = spawnSync('mkfifo', [path]);
  if (made.status !== 0) throw new Error(`mkfifo ${path}: ${made.stderr}`);
  const writer = spawn('sh', ['-c', 'sleep 1; exec 3<>"$1"; echo from the FIFO >&3; sleep 1', 'sh', path]);
  onTestFinished(() => void writer.kill());
}
