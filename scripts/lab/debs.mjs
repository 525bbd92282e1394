/** Debian packages that are unpacked into the cache, not installed. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { aptUpdate, ensureDebianPackages } from '../lib/packages.mjs';
import { CACHE } from '../lib/paths.mjs';
import { Failure, step } from '../lib/progress.mjs';

/**
 * The folder that holds a package's files. Downloaded once and kept until the cache is deleted.
 *
 * @param {string} name of the package, or of one that only depends on it if `follow` is given
 * @param {RegExp} [follow] the name of the dependency to take instead
 * @returns {Promise<string>}
 */
export async function unpackedDeb(name, follow) {
  const folder = path.join(CACHE, 'debs', name);
  if (fs.existsSync(folder)) return folder;
  await ensureDebianPackages(['guest']);
  return step(`downloading Debian's ${name}`, async (detail) => {
    if (process.getuid?.() === 0) await aptUpdate(detail);
    const target = follow ? await dependencyOf(name, follow) : name;
    const work = `${folder}.${process.pid}`;
    fs.rmSync(work, { recursive: true, force: true });
    fs.mkdirSync(path.join(work, 'files'), { recursive: true });
    // As root, apt would hand the download to a user who cannot write here.
    await run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', '-q', target], {
      cwd: work,
      onLine: detail,
    });
    const deb = fs.readdirSync(work).find((file) => file.endsWith('.deb'));
    if (!deb) throw new Failure(`apt-get download ${target} left no package behind`);
    await run('dpkg-deb', ['-x', path.join(work, deb), path.join(work, 'files')]);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(path.join(work, 'files'), folder);
    fs.rmSync(work, { recursive: true });
    return folder;
  });
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
