/** UNIX sockets that listen. */
import fs from 'node:fs';

/** In /proc/net/unix, of a socket that listens (__SO_ACCEPTCON). */
const ACCEPTS = '00010000';

/**
 * A server's socket has its file a moment before it listens: who is to connect to another program's waits for this, not
 * for the file.
 *
 * @param {readonly string[]} names that the sockets were bound to
 * @returns {string[]} the inodes of those that listen
 */
export function listeningInodes(names) {
  return fs
    .readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((words) => names.includes(words.at(-1) ?? '') && words[3] === ACCEPTS)
    .map((words) => words.at(-2) ?? '');
}

/** @param {string} name @returns {boolean} whether a socket that was bound to it listens */
export function listens(name) {
  return listeningInodes([name]).length > 0;
}
