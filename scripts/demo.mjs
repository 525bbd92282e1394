/**
 * `npm run demo`: boots a stock Linux kernel on this machine by the best way it has and shows its console; a shell if
 * a terminal is attached, a short script in it if not.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { labSession, localSession } from './demo/session.mjs';
import { typeScript } from './demo/typist.mjs';
import { attach } from './lab/attach.mjs';
import { stockGuest } from './lab/guest.mjs';
import { labHost } from './lab/hostImage.mjs';
import { openLab } from './lab/lab.mjs';
import { buildAll } from './lib/build.mjs';
import { runAttached } from './lib/exec.mjs';
import { ADDON, ROOT } from './lib/paths.mjs';
import { exitOnSignals, runMain, say, step } from './lib/progress.mjs';

/** What is typed when nobody sits at a terminal. The last one ends the guest. */
const SCRIPT = [
  'uname -a',
  'nproc',
  'ls /sys/bus/virtio/drivers/*/ | grep virtio[0-9]',
  'cat /etc/motd',
  'dd if=/dev/vda of=/dev/null bs=1M count=16 2>&1 | tail -n 1',
  'poweroff -f',
];

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

/**
 * @param {string} files folder with the stock guest's files
 * @param {string} disk
 * @param {string} root folder of the checkout
 */
function vmmCommand(files, disk, root) {
  return [
    path.join(root, 'bin/tsvmm'),
    ...['--kernel', path.join(files, 'bzImage'), '--initramfs', path.join(files, 'initramfs')],
    ...['--cmdline', 'console=ttyS0 root=/dev/vda', '--disk', `path=${disk},image_type=raw`],
    ...['--cpus', 'boot=2', '--memory', 'size=512M', '--rng', 'src=/dev/urandom'],
    ...['--serial', 'tty', '--console', 'off'],
  ];
}

/** @typedef {import('./demo/session.mjs').Session} Session */

/** @returns {Promise<number>} */
async function runNatively() {
  const guest = await stockGuest();
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-demo-'));
  try {
    const disk = path.join(work, 'disk.img');
    fs.copyFileSync(guest.disk, disk);
    const command = vmmCommand(guest.folder, disk, ROOT);
    say(`$ ${command.join(' ')}`);
    sayHowToLeave();
    return await (isInteractive()
      ? runAttached(String(command[0]), command.slice(1))
      : play(localSession(command)));
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
}

/** @returns {Promise<number>} */
async function runInLab() {
  await labHost();
  const lab = await step('booting the lab host', () => openLab());
  try {
    const command = vmmCommand('/guest', '/guest/disk.img', '/tsvmm');
    say(`lab$ ${command.join(' ')}`);
    sayHowToLeave();
    return await (isInteractive() ? attach(lab, command) : play(labSession(lab, command)));
  } finally {
    await lab.close();
  }
}

function isInteractive() {
  return Boolean(process.stdin.isTTY && process.stdout.isTTY);
}

/** @param {Session} session */
function play(session) {
  // The guest's shell asks a terminal for its cursor; there is none.
  const show = (/** @type {string} */ text) => process.stdout.write(text.replaceAll('\x1b[6n', ''));
  return typeScript(session, SCRIPT, show);
}

function sayHowToLeave() {
  if (isInteractive()) say('The shell is yours; `exit` (or `poweroff -f`) ends the guest.');
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
