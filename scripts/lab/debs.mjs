/** Debian packages that are unpacked into the cache, not installed. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { aptUpdate, ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE } from '../lib/paths.mjs';
import { Failure, step } from '../lib/progress.mjs';

/** @param {string} name of a package */
const folderOf = (name) => path.join(CACHE, 'debs', name);

/**
 * The folder that holds a package's files. Downloaded once and kept until the cache is deleted.
 *
 * @param {string} name of the package, or of one that only depends on it if `follow` is given
 * @param {RegExp} [follow] the name of the dependency to take instead
 * @returns {Promise<string>}
 */
export async function unpackedDeb(name, follow) {
  const folder = folderOf(name);
  if (fs.existsSync(folder)) return folder;
  await preparePackaging();
  await step(`downloading Debian's ${name}`, async (detail) => {
    if (process.getuid?.() === 0) await aptUpdate(detail);
    const target = follow ? await dependencyOf(name, follow) : name;
    await download(new Map([[target, folder]]), detail);
  });
  return folder;
}

/**
 * The folders of these packages and of all libraries that they depend on.
 *
 * @param {readonly string[]} names
 * @param {readonly string[]} without libraries that are left out, with what only they need
 * @returns {Promise<Map<string, string>>} package -> folder
 */
export async function unpackedWithLibraries(names, without) {
  await preparePackaging();
  return step(`downloading ${names.join(', ')} with their libraries`, async (detail) => {
    if (process.getuid?.() === 0) await aptUpdate(detail);
    const all = await withLibraries(names, new Set(without));
    const missing = all.filter((name) => !fs.existsSync(folderOf(name)));
    await download(new Map(missing.map((name) => [name, folderOf(name)])), detail);
    return new Map(all.map((name) => [name, folderOf(name)]));
  });
}

/** apt, dpkg-deb and what makes images of their packages. */
function preparePackaging() {
  return ensureDebianPackages(['guest']);
}

/**
 * @param {Map<string, string>} wanted package -> folder for its files
 * @param {(line: string) => void} detail
 */
async function download(wanted, detail) {
  if (wanted.size === 0) return;
  const work = path.join(CACHE, 'debs', `.work-${process.pid}`);
  fs.rmSync(work, { recursive: true, force: true });
  fs.mkdirSync(work, { recursive: true });
  // As root, apt would hand the download to a user who cannot write here.
  await run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', '-q', ...wanted.keys()], {
    cwd: work,
    onLine: detail,
  });
  for (const [name, folder] of wanted) {
    const deb = fs.readdirSync(work).find((file) => file.startsWith(`${name}_`));
    if (!deb) throw new Failure(`apt-get download ${name} left no package behind`);
    await run('dpkg-deb', ['-x', path.join(work, deb), path.join(work, name)]);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(path.join(work, name), folder);
  }
  fs.rmSync(work, { recursive: true });
}

/**
 * @param {string} name
 * @param {RegExp} follow
 */
async function dependencyOf(name, follow) {
  const { stdout } = await run('apt-cache', ['depends', '--no-recommends', '--no-suggests', name]);
  const found = stdout.match(new RegExp(`Depends: (${follow.source})`));
  if (!found?.[1]) throw new Failure(`Debian's ${name} names no kernel package`);
  return found[1];
}

/** Of the C and C++ libraries there is one version in an image: that of this machine, with which Node.js came. */
const LIBRARY = /^(?!libc6$|libgcc-s1$|libstdc\+\+6$)(lib|zlib)/;

/**
 * @param {readonly string[]} names
 * @param {ReadonlySet<string>} without
 * @returns {Promise<string[]>}
 */
async function withLibraries(names, without) {
  const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'];
  const { stdout } = await run('apt-cache', [
    ...['depends', '--recurse', ...only.map((relation) => `--no-${relation}`)],
    ...names,
  ]);
  /** @type {Map<string, string[]>} */
  const graph = new Map();
  /** @type {string[]} */
  let needed = [];
  for (const line of stdout.split('\n')) {
    const dependency = line.match(/^ [ |](?:Pre)?Depends: ([a-z0-9.+-]+)$/);
    if (dependency?.[1]) needed.push(dependency[1]);
    else if (/^[a-z0-9]/.test(line)) {
      needed = [];
      graph.set(line.trim(), needed);
    }
  }
  /** @type {Set<string>} */
  const all = new Set();
  const visit = (/** @type {string} */ name) => {
    if (all.has(name)) return;
    all.add(name);
    for (const other of graph.get(name) ?? []) if (LIBRARY.test(other) && !without.has(other)) visit(other);
  };
  for (const name of names) visit(name);
  return [...all];
}
