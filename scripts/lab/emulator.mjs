/** The QEMU that emulates the lab's host. */
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { unpackedDeb } from './debs.mjs';

const PROGRAM = 'qemu-system-x86_64';

/** The first whose emulation of SVM arms the debug registers of a guest. */
const ARMS_DEBUG_REGISTERS = [9, 1];

/** Newer than Debian 12's, runs with the libraries that that one depends on, and with its firmware. */
const BACKPORT = { suite: 'bookworm-backports', architecture: 'amd64' };
const FIRMWARE = ['/usr/share/qemu', '/usr/share/seabios'];

/**
 * @typedef {object} Emulator
 * @property {string} file
 * @property {readonly string[]} args that go before all others
 */

/**
 * This machine's. If guests need debug registers and it is too old for that, it is Debian's newer one, from the cache:
 * not so for all labs, as that one takes a sixth more processor time for the same.
 *
 * @param {boolean} debugRegisters
 * @returns {Promise<Emulator>}
 */
export async function emulator(debugRegisters) {
  if (!debugRegisters || (await isAtLeast(ARMS_DEBUG_REGISTERS))) return { file: PROGRAM, args: [] };
  const folder = await unpackedDeb('qemu-system-x86', { archive: BACKPORT, files: [`./usr/bin/${PROGRAM}`] });
  return { file: path.join(folder, 'usr/bin', PROGRAM), args: FIRMWARE.flatMap((name) => ['-L', name]) };
}

/** @param {readonly number[]} version */
async function isAtLeast([major = 0, minor = 0]) {
  const { stdout } = await run(PROGRAM, ['--version']);
  const [, thisMajor = 0, thisMinor = 0] = /version (\d+)\.(\d+)/.exec(stdout)?.map(Number) ?? [];
  return thisMajor > major || (thisMajor === major && thisMinor >= minor);
}
