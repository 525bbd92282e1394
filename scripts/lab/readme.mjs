/** README's commands, and the Debian guest that its first one makes. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { ensureDebianPackages } from '../lib/packages.mjs';
import { BUILD, ROOT } from '../lib/paths.mjs';
import { step } from '../lib/progress.mjs';
import { unlessFresh } from '../lib/stamp.mjs';

/** Where README's first command is run. Below the checkout, and so to be seen in the lab. */
const FOLDER = path.join(BUILD, 'readme-guest');

/** README's text */
function readme() {
  return fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8');
}

/**
 * The command lines of README's example that begins in this way.
 *
 * @param {string} begin
 * @returns {string}
 */
export function example(begin) {
  const blocks = [...readme().matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((found) => String(found[1]));
  const [block, another] = blocks.filter((text) => text.startsWith(begin));
  if (block === undefined || another !== undefined) throw new Error(`README has no one example '${begin}'`);
  return block.trim();
}

/**
 * The words within README's text that begin in this way and stand in `backquotes`.
 *
 * @param {string} begin
 * @returns {string}
 */
export function inline(begin) {
  const [words, another] = [...readme().matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)]
    .map((found) => String(found[1]))
    .filter((text) => text.startsWith(begin));
  if (words === undefined || another !== undefined)
    throw new Error(`README has no one '${begin}' in its text`);
  return words;
}

/**
 * @typedef {object} ReadmeGuest
 * @property {string} folder that has vmlinuz, initrd.img and root.img
 * @property {string} key file of the SSH key that its root takes
 * @property {string} keyInLab the same, in the lab
 */

/**
 * Made as README says, once for the same words of README.
 *
 * @returns {Promise<ReadmeGuest>}
 */
export async function readmeGuest() {
  const script = example('mmdebstrap ');
  const key = path.join(FOLDER, 'home/.ssh/id_ed25519');
  const guest = { folder: FOLDER, key, keyInLab: inLab(key) };
  const outputs = [...GUEST_FILES.map((name) => path.join(FOLDER, name)), guest.key];
  await unlessFresh('readme-guest', { inputs: [], outputs, extra: script }, () =>
    step("making README's Debian guest", (detail) => make(script, guest, detail)),
  );
  return guest;
}

const GUEST_FILES = ['vmlinuz', 'initrd.img', 'root.img'];

/**
 * @param {string} script
 * @param {ReadmeGuest} guest
 * @param {(line: string) => void} onLine
 */
async function make(script, { folder, key }, onLine) {
  await ensureDebianPackages(['guest', 'test']);
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(path.dirname(key), { recursive: true, mode: 0o700 });
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const env = { HOME: path.join(folder, 'home') };
  await run('sh', ['-ec', script], { cwd: folder, env, onLine });
  fs.rmSync(path.join(folder, 'root'), { recursive: true });
}

/**
 * A folder with the guest's files in it, of which a VM may change the disk, and with `bin` of this checkout.
 *
 * @param {ReadmeGuest} guest
 * @param {string} name
 * @returns {Promise<{folder: string, inLab: string}>} where it is, and where it is in the lab
 */
export async function workplace(guest, name) {
  const folder = path.join(BUILD, name);
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder);
  for (const file of GUEST_FILES) {
    await run('cp', ['--sparse=always', '--reflink=auto', path.join(guest.folder, file), folder]);
  }
  fs.symlinkSync('../../bin', path.join(folder, 'bin'));
  return { folder, inLab: inLab(folder) };
}

/** @param {string} file of the checkout */
function inLab(file) {
  return path.join('/tsvmm', path.relative(ROOT, file));
}
