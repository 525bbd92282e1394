import { execFileSync } from 'node:child_process';

/**
 * Where a program is that the host may or may not have installed.
 *
 * @param {string} name
 * @returns {string | undefined} absolute path
 */
export function findCommand(name) {
  try {
    return execFileSync('which', [name], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}
