/** Where things are: the checkout, its outputs and the cache. */
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const DIST = path.join(ROOT, 'dist');
export const BUILD = path.join(ROOT, 'build');
export const EXECUTABLE = path.join(DIST, 'tsvmm');
/** bin/tsvmm: the program that looks for the executable. */
export const LAUNCHER = path.join(ROOT, 'bin/tsvmm');
/** bin/tsvmmd: a script that runs the other one. */
export const SUPERVISOR = path.join(ROOT, 'bin/tsvmmd');
export const ADDON = path.join(DIST, 'tsvmm.node');

/** Downloads and images made from them: `$TSVMM_CACHE`, else `$XDG_CACHE_HOME/tsvmm`, else `~/.cache/tsvmm`. */
export const CACHE =
  process.env.TSVMM_CACHE ||
  path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'tsvmm');

/** @param {string} name a command that an npm package of this project brings */
export function nodeBin(name) {
  return path.join(ROOT, 'node_modules/.bin', name);
}
