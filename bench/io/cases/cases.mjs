/** What blk, net and vsock measure. */
import { BLK_CASES } from './blk.mjs';
import { NET_CASES } from './net.mjs';
import { VSOCK_CASES } from './vsock.mjs';

/** @typedef {'blk' | 'net' | 'vsock'} IoBenchmark */

/**
 * @typedef {object} Disk
 * @property {'raw' | 'qcow2'} format
 * @property {boolean} direct O_DIRECT
 */

/**
 * Something to compare with that is no VMM: a command of bench/host.
 *
 * @typedef {object} Floor
 * @property {string} name
 * @property {(guest: string, commandLine: string) => string[]} args of bench/host
 * @property {Readonly<Record<string, string | number>>} [guest] other options for the measuring guest
 */

/**
 * @typedef {object} Case
 * @property {IoBenchmark} benchmark
 * @property {string} name
 * @property {string} title
 * @property {'operations' | 'bytes'} rate what is compared, per second
 * @property {Readonly<Record<string, string | number>>} guest options of the measuring guest, `run` included
 * @property {Disk} [disk]
 * @property {{returns: number}} [tap] how often the host returns each frame
 * @property {boolean} [vsock]
 * @property {readonly Floor[]} [floors]
 */

/** @type {readonly Case[]} */
export const CASES = [...BLK_CASES, ...NET_CASES, ...VSOCK_CASES];

/**
 * @param {IoBenchmark} benchmark
 * @param {readonly RegExp[]} patterns all cases if there are none
 */
export function selectCases(benchmark, patterns) {
  return CASES.filter(
    (one) =>
      one.benchmark === benchmark &&
      (patterns.length === 0 || patterns.some((pattern) => pattern.test(one.name))),
  );
}
