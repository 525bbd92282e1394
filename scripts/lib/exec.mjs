/** Child processes of the project's commands. */
import { spawn } from 'node:child_process';
import { Failure } from './progress.mjs';

/** Bytes of a failed command's output that are worth showing. */
const SHOWN_OUTPUT = 8000;

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env] added to this process's environment
 * @property {(line: string) => void} [onLine] hears every line the command prints
 * @property {string | Uint8Array} [input] its standard input; empty unless given
 * @property {boolean} [okToFail] return the exit code instead of throwing
 */

/**
 * Runs a command to its end with its output captured (stdout and stderr together, and stdout alone).
 * Throws a Failure with the end of the output if it fails.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<{code: number, output: string, stdout: string}>}
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    let output = '';
    let stdout = '';
    const hear = (/** @type {Buffer} */ chunk, /** @type {boolean} */ isStdout) => {
      const text = chunk.toString();
      output += text;
      if (isStdout) stdout += text;
      if (options.onLine) for (const line of text.split('\n')) if (line.trim()) options.onLine(line.trim());
    };
    child.stdout?.on('data', (chunk) => hear(chunk, true));
    child.stderr?.on('data', (chunk) => hear(chunk, false));
    child.stdin?.end(options.input);
    child.on('error', (error) => reject(new Failure(`cannot run ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      const status = code ?? 128;
      if (status === 0 || options.okToFail) {
        resolve({ code: status, output, stdout });
        return;
      }
      const how = signal ? `was ended by ${signal}` : `failed with exit code ${code}`;
      reject(
        new Failure(`${command} ${args.join(' ').slice(0, 200)} ${how}\n${output.slice(-SHOWN_OUTPUT)}`),
      );
    });
  });
}

/**
 * Runs a command with this process's own terminal or pipes. Returns its exit code (128 if a signal ended it).
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{cwd?: string, env?: NodeJS.ProcessEnv, timeoutSeconds?: number}} [options] killed after that time, if given
 * @returns {Promise<number>}
 */
export function runAttached(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: 'inherit',
      ...(options.timeoutSeconds && { timeout: options.timeoutSeconds * 1000, killSignal: 'SIGKILL' }),
    });
    child.on('error', (error) => reject(new Failure(`cannot run ${command}: ${error.message}`)));
    child.on('close', (code) => resolve(code ?? 128));
  });
}
