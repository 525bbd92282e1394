/**
 * `npm run demo`: boots a stock Linux kernel on this machine by the best way it has and shows its console; a shell if
 * a terminal is attached, a short script in it if not.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { demoScript, shellLine, vmmCommand } from './demo/command.mjs';
import { labSession, localSession } from './demo/session.mjs';
import { typeScript } from './demo/typist.mjs';
import { attach } from './lab/attach.mjs';
import { stockGuest } from './lab/guest.mjs';
import { labHost } from './lab/hostImage.mjs';
import { openLab } from './lab/lab.mjs';
import { buildAll } from './lib/build.mjs';
import { runAttached } from './lib/exec.mjs';
import { hasCommand } from './lib/packages.mjs';
import { ADDON, BUILD, ROOT } from './lib/paths.mjs';
import { exitOnSignals, runMain, say, step } from './lib/progress.mjs';

/** Why this machine cannot run a stock guest by itself, or nothing if it can. */
function whyNotNative() {
  try {
    fs.closeSync(fs.openSync('/dev/kvm', 'r+'));
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code === 'ENOENT') return 'it has no /dev/kvm';
    if (code === 'EACCES' || code === 'EPERM') return 'this user may not open /dev/kvm';
    return `/dev/kvm cannot be opened (${code})`;
  }
  const { hardwareVirtualization } = createRequire(import.meta.url)(ADDON).hostInfo();
  if (hardwareVirtualization) return undefined;
  return 'its KVM has no hardware virtualization behind it, which a stock kernel needs';
}

/** @typedef {import('./demo/session.mjs').Session} Session */

/** @returns {Promise<number>} */
async function runNatively() {
  const guest = await stockGuest();
  const network = hasCommand('passt');
  if (!network) say("The guest gets no network: passt is not installed (Debian's package `passt`).");
  const command = vmmCommand({ root: ROOT, files: guest.folder, disk: freshDisk(guest.disk), network });
  say(`$ ${shellLine(command)}`);
  sayHowToLeave();
  return isInteractive()
    ? runAttached(String(command[0]), command.slice(1))
    : play(localSession(command), demoScript(network));
}

/**
 * A disk for the guest to write to, which stays, so that the printed command can be run again.
 *
 * @param {string} disk
 */
function freshDisk(disk) {
  const copy = path.join(BUILD, 'demo/disk.img');
  fs.mkdirSync(path.dirname(copy), { recursive: true });
  // Another file each time: the guest of another demo may still use the last one.
  fs.copyFileSync(disk, `${copy}.new`);
  fs.renameSync(`${copy}.new`, copy);
  return copy;
}

/** @returns {Promise<number>} */
async function runInLab() {
  await labHost();
  const lab = await step('booting the lab host', () => openLab());
  try {
    const where = { root: '/tsvmm', files: '/guest', disk: '/guest/disk.img', network: true };
    const command = vmmCommand(where);
    say(`$ npm run lab -- -- ${shellLine(command)}`);
    sayHowToLeave();
    return await (isInteractive()
      ? attach(lab, command)
      : play(labSession(lab, command), demoScript(where.network)));
  } finally {
    await lab.close();
  }
}

function isInteractive() {
  return Boolean(process.stdin.isTTY && process.stdout.isTTY);
}

/**
 * @param {Session} session
 * @param {readonly string[]} script
 */
function play(session, script) {
  // The guest's shell asks a terminal for its cursor; there is none.
  const show = (/** @type {string} */ text) => process.stdout.write(text.replaceAll('\x1b[6n', ''));
  return typeScript(session, script, show);
}

function sayHowToLeave() {
  if (isInteractive()) say('The shell is yours; `poweroff` ends the guest.');
}

await runMain(async () => {
  exitOnSignals();
  await buildAll();
  const obstacle = whyNotNative();
  if (!obstacle) {
    say('This machine has hardware virtualization: the guest runs on its own KVM.');
    return runNatively();
  }
  say(`This machine cannot run a stock kernel itself: ${obstacle}.`);
  say(
    'So it runs in the lab: an emulated host with AMD virtualization, where everything is many times slower.',
  );
  return runInLab();
});
