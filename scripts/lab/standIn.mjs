/**
 * A library in place of those that only a program's network storage engines call. Debian's fio is linked with the
 * clients of several storage clusters and loads their 60 MB at every start; an emulated guest has no time for that.
 * What stands in for them has their names and versions, so that the program loads, and ends it when one of them is
 * called.
 */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';

/** Package -> its library's file name. */
export const STAND_INS = {
  libgfapi0: 'libgfapi.so.0',
  libibverbs1: 'libibverbs.so.1',
  librdmacm1: 'librdmacm.so.1',
  libnbd0: 'libnbd.so.0',
  libpmem1: 'libpmem.so.1',
  libpmemblk1: 'libpmemblk.so.1',
  librados2: 'librados.so.2',
  librbd1: 'librbd.so.1',
};

/** Their functions. */
const NAMES = /^(glfs|ibv|rdma|nbd|pmem|pmemblk|rados|rbd)_/;

/**
 * Builds the stand-in if the program needs one.
 *
 * @param {string} program
 * @param {string} folder for the library, under all of its names
 */
export async function makeStandIn(program, folder) {
  const { stdout } = await run('nm', ['-D', '--undefined-only', '--with-symbol-versions', program]);
  /** @type {Map<string, string[]>} version, or nothing -> functions */
  const versions = new Map();
  for (const [, name, version] of stdout.matchAll(/ U (\w+)(?:@(\S+))?$/gm)) {
    if (!name || !NAMES.test(name)) continue;
    const names = versions.get(version ?? '') ?? [];
    names.push(name);
    versions.set(version ?? '', names);
  }
  if (versions.size === 0) return;
  fs.mkdirSync(folder, { recursive: true });
  const functions = [...versions.values()].flat();
  const source = path.join(folder, 'standIn.c');
  fs.writeFileSync(source, functions.map((name) => `void ${name}(void) { __builtin_trap(); }\n`).join(''));
  const script = path.join(folder, 'versions');
  fs.writeFileSync(
    script,
    [...versions]
      .filter(([version]) => version)
      .map(([version, names]) => `${version} { ${names.map((name) => `${name};`).join(' ')} };\n`)
      .join(''),
  );
  const library = path.join(folder, 'standIn.so');
  const flags = ['-shared', '-fPIC', '-nostdlib', '-fno-builtin', `-Wl,--version-script=${script}`];
  await run('gcc', [...flags, '-o', library, source]);
  for (const name of Object.values(STAND_INS)) fs.copyFileSync(library, path.join(folder, name));
}
