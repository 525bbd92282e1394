/** Debian packages that are unpacked into the cache, not installed. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { withLock } from '../lib/lock.mjs';
import { aptUpdate, ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE } from '../lib/paths.mjs';
import { Failure, step } from '../lib/progress.mjs';
import { digestOf } from '../lib/stamp.mjs';

/**
 * A part of Debian's archive that this machine's apt need not know of.
 *
 * @typedef {object} Archive
 * @property {string} suite
 * @property {string} architecture
 */

/**
 * @typedef {object} DebOptions
 * @property {RegExp} [follow] the name of the dependency to take instead of a package that only depends on it
 * @property {Archive} [archive] where it is if not among this machine's own packages
 * @property {readonly string[]} [files] patterns of tar for what is wanted of it; everything unless given
 */

const MIRROR = 'http://deb.debian.org/debian';

/** Arguments: package, folder, patterns. */
const UNPACK_SOME = `
deb=$1 folder=$2
shift 2
dpkg-deb --fsys-tarfile "$deb" | { tar -x -C "$folder" --wildcards "$@" || true; }`;

/** @param {string} name of a package */
const folderOf = (name) => path.join(CACHE, 'debs', name);

/**
 * The folder that holds a package's files. Downloaded once and kept until the cache is deleted.
 *
 * @param {string} name
 * @param {DebOptions} [options]
 * @returns {Promise<string>}
 */
export async function unpackedDeb(name, { follow, archive, files } = {}) {
  const from = archive ? `_${archive.suite}_${archive.architecture}` : '';
  const part = files ? `_${digestOf([], files.join('\0')).slice(0, 8)}` : '';
  const folder = folderOf(`${name}${from}${part}`);
  if (fs.existsSync(folder)) return folder;
  await preparePackaging();
  await step(`downloading Debian's ${path.basename(folder)}`, async (detail) => {
    if (archive === undefined && process.getuid?.() === 0) await aptUpdate(detail);
    const env = archive ? await aptFor(archive, detail) : {};
    const target = follow ? await dependencyOf(name, follow, env) : name;
    await download(new Map([[target, folder]]), detail, { env, files });
  });
  return folder;
}

/** @type {Map<string, Promise<Record<string, string>>>} */
const apts = new Map();

/**
 * An apt with lists of its own, so that nothing of this machine's is changed.
 *
 * @param {Archive} archive
 * @param {(line: string) => void} detail
 * @returns {Promise<Record<string, string>>} the environment that makes apt use them
 */
function aptFor(archive, detail) {
  const name = `${archive.suite}_${archive.architecture}`;
  const apt = apts.get(name) ?? makeApt(path.join(CACHE, 'apt', name), archive, detail);
  apts.set(name, apt);
  return apt;
}

/**
 * @param {string} folder
 * @param {Archive} archive
 * @param {(line: string) => void} detail
 */
async function makeApt(folder, { suite, architecture }, detail) {
  const file = (/** @type {string} */ name) => path.join(folder, name);
  fs.mkdirSync(file('lists/partial'), { recursive: true });
  fs.mkdirSync(file('cache/archives/partial'), { recursive: true });
  fs.writeFileSync(file('sources.list'), `deb [arch=${architecture}] ${MIRROR} ${suite} main\n`);
  const settings = {
    'Dir::Etc::sourcelist': file('sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': file('lists'),
    'Dir::Cache': file('cache'),
    'APT::Architecture': architecture,
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`);
  lines.push(`#clear APT::Architectures;\nAPT::Architectures { "${architecture}"; };\n`);
  fs.writeFileSync(file('apt.conf'), lines.join(''));
  const env = { APT_CONFIG: file('apt.conf') };
  await run('apt-get', ['update', '-q'], { env, onLine: detail });
  return env;
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
 * @param {{env?: Record<string, string>, files?: readonly string[] | undefined}} [options]
 */
async function download(wanted, detail, options = {}) {
  // Another process may need some of the same.
  await withLock(path.join(CACHE, 'debs.lock'), async () => {
    const missing = [...wanted].filter(([, folder]) => !fs.existsSync(folder));
    if (missing.length > 0) await downloadMissing(new Map(missing), detail, options);
  });
}

/** @type {typeof download} */
async function downloadMissing(wanted, detail, { env = {}, files } = {}) {
  const work = path.join(CACHE, 'debs', '.work');
  fs.rmSync(work, { recursive: true, force: true });
  fs.mkdirSync(work, { recursive: true });
  // As root, apt would hand the download to a user who cannot write here.
  await run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', '-q', ...wanted.keys()], {
    cwd: work,
    env,
    onLine: detail,
  });
  for (const [name, folder] of wanted) {
    const deb = fs.readdirSync(work).find((file) => file.startsWith(`${name}_`));
    if (!deb) throw new Failure(`apt-get download ${name} left no package behind`);
    await unpack(path.join(work, deb), path.join(work, name), files);
    fs.renameSync(path.join(work, name), folder);
  }
  fs.rmSync(work, { recursive: true });
}

/**
 * @param {string} deb
 * @param {string} folder
 * @param {readonly string[]} [files] patterns
 */
async function unpack(deb, folder, files) {
  if (!files) {
    await run('dpkg-deb', ['-x', deb, folder]);
    return;
  }
  fs.mkdirSync(folder);
  // Not all patterns are in every version of a package; whoever needs a file says so when it is missing.
  await run('sh', ['-c', UNPACK_SOME, 'sh', deb, folder, ...files]);
}

/**
 * @param {string} name
 * @param {RegExp} follow
 * @param {Record<string, string>} env
 */
async function dependencyOf(name, follow, env) {
  const { stdout } = await run('apt-cache', ['depends', '--no-recommends', '--no-suggests', name], { env });
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
