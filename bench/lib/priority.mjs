/** Real-time priority where that may be had, so that other load on the host matters less. */
import { spawnSync } from 'node:child_process';

const CHRT = ['chrt', '--rr', '1'];

/** @returns {readonly string[]} words to put before a command */
export function priorityWords() {
  const [file = '', ...args] = CHRT;
  return spawnSync(file, [...args, 'true']).status === 0 ? CHRT : [];
}
