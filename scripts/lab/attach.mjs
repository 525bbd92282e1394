/** Joins a command in the lab to this process's own standard streams. */
import os from 'node:os';

/**
 * Runs a command with this process's standard streams, on a terminal of its own if they are one.
 *
 * @param {import('./lab.mjs').Lab} lab
 * @param {readonly string[]} command
 * @returns {Promise<number>} its exit code
 */
export async function attach(lab, command) {
  const { stdin, stdout } = process;
  const interactive = Boolean(stdin.isTTY && stdout.isTTY);
  const job = lab.start({
    command,
    ...(interactive && { terminal: { rows: stdout.rows, columns: stdout.columns } }),
    onStdout: (bytes) => stdout.write(bytes),
    onStderr: (bytes) => process.stderr.write(bytes),
  });
  const passOn = (/** @type {'SIGINT' | 'SIGTERM' | 'SIGHUP'} */ name) =>
    job.kill(os.constants.signals[name]);
  const resize = () => job.resize(stdout.rows, stdout.columns);
  for (const name of SIGNALS) process.on(name, passOn);
  if (interactive) {
    stdin.setRawMode(true);
    stdout.on('resize', resize);
  }
  stdin.on('data', (bytes) => job.write(bytes));
  stdin.on('end', () => job.end());
  try {
    return await job.exited;
  } finally {
    if (interactive) stdin.setRawMode(false);
    stdout.off('resize', resize);
    for (const name of SIGNALS) process.off(name, passOn);
    stdin.destroy();
  }
}

const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);
