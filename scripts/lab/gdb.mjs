/** Debian's gdb, for tests that debug a guest: this machine's, or else the small one from the cache. */
import fs from 'node:fs';
import path from 'node:path';
import { unpackedWithLibraries } from './debs.mjs';
import { STAND_INS } from './standIn.mjs';

const PACKAGE = 'gdb-minimal';

/**
 * @typedef {object} Program
 * @property {string} file
 * @property {Record<string, string>} env
 */

/** @returns {Promise<Program>} */
export async function gdbProgram() {
  const installed = (process.env.PATH ?? '').split(':').map((folder) => path.join(folder, 'gdb'));
  const found = installed.find((file) => fs.existsSync(file));
  if (found !== undefined) return { file: found, env: {} };
  const folders = await unpackedWithLibraries([PACKAGE], Object.keys(STAND_INS));
  const libraries = [...folders.values()].flatMap((folder) =>
    ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((name) => path.join(folder, name)),
  );
  return {
    file: path.join(String(folders.get(PACKAGE)), 'usr/bin/gdb'),
    env: { LD_LIBRARY_PATH: libraries.filter((folder) => fs.existsSync(folder)).join(':') },
  };
}
