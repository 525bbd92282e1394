/** A command that somebody types into, here or in the lab. */
import { spawn } from 'node:child_process';
import os from 'node:os';

/**
 * @typedef {object} Session
 * @property {(text: string) => void} write
 * @property {(hear: (text: string) => void) => void} onOutput stdout; stderr goes where this process's goes
 * @property {() => void} kill
 * @property {Promise<number>} exited exit code
 */

/**
 * @param {readonly string[]} command
 * @returns {Session}
 */
export function localSession(command) {
  const child = spawn(String(command[0]), command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  return {
    write: (text) => child.stdin.write(text),
    onOutput: (hear) => child.stdout.on('data', (chunk) => hear(chunk.toString())),
    kill: () => child.kill('SIGTERM'),
    exited: new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve(code ?? 128));
    }),
  };
}

/**
 * @param {import('../lab/lab.mjs').Lab} lab
 * @param {readonly string[]} command
 * @returns {Session}
 */
export function labSession(lab, command) {
  /** @type {((text: string) => void)[]} */
  const listeners = [];
  const job = lab.start({
    command,
    onStdout: (bytes) => {
      for (const hear of listeners) hear(bytes.toString());
    },
    onStderr: (bytes) => process.stderr.write(bytes),
  });
  return {
    write: (text) => job.write(Buffer.from(text)),
    onOutput: (hear) => listeners.push(hear),
    kill: () => job.kill(os.constants.signals.SIGTERM),
    exited: job.exited,
  };
}
