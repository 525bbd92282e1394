/**
 * The lab: an emulated x86_64 host with AMD's virtualization, so that stock Linux guests run on a real KVM anywhere.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT } from '../lib/paths.mjs';
import { Failure } from '../lib/progress.mjs';
import { AgentLink } from './agentLink.mjs';
import { emulator } from './emulator.mjs';
import { labHost } from './hostImage.mjs';
import { clockOf, within } from './labTime.mjs';
import { startSharing } from './share.mjs';

/**
 * Linux patches its code while it runs, also whenever a VM comes or goes. QEMU before 8.1 may keep what one CPU has
 * translated while another patched it: then a breakpoint that is no longer there stops whoever comes by, again and
 * again. Not so with one CPU.
 */
const CPUS = 1;

const BOOT_SECONDS = 120;
const POWER_OFF_SECONDS = 15;

/** Within which QEMU, which ends its file servers, has said itself why it ended. */
const BLAME_MS = 500;

/** How often the lab is asked whether it is alive, and how long it may take to answer. */
const PULSE_MS = 5000;
const SILENCE_SECONDS = 45;

/** Loaded in the lab host before the first command. */
const HOST_MODULES = ['kvm_amd', 'virtio_rng', 'tun', 'vhost_net'];

/** QEMU's list of what this CPU model has and its emulation lacks. */
const EMULATION_WARNINGS = /^qemu-system-x86_64: warning: TCG doesn't support.*\n/gm;

/**
 * @typedef {object} LabOptions
 * @property {string} [share] a folder of this machine that the lab sees at /share, writable
 * @property {number} [megabytes] memory, 3072 unless given
 * @property {boolean} [icount] one host CPU at a time, and time that counts executed instructions
 * @property {boolean} [debugRegisters] guests have those of the processor, which only newer versions of QEMU give them
 * @property {readonly string[]} [modules] kernel modules to load besides those for KVM
 * @property {(text: string) => void} [onConsole] hears the lab host's own console
 */

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd] / unless given
 * @property {Record<string, string>} [env]
 * @property {string | Uint8Array} [input] standard input; empty unless given
 * @property {number} [timeoutSeconds] of the lab's own time, after which the command is killed and run() fails; none
 *   unless given
 */

/**
 * @typedef {object} Lab
 * @property {(command: readonly string[], options?: RunOptions) =>
 *   Promise<{code: number, stdout: string, stderr: string}>} run runs a command to its end
 * @property {(spec: Omit<import('./agentLink.mjs').JobSpec, 'cwd' | 'env'> &
 *   {cwd?: string, env?: Record<string, string>}) => import('./agentLink.mjs').Job} start starts a command
 * @property {() => Promise<void>} close powers the lab off
 * @property {() => number} now milliseconds of the lab's own time (labTime.mjs)
 * @property {<T>(seconds: number, promise: Promise<T>, late: () => T | Promise<T>) => Promise<T>} within the same for
 *   the time until that is called instead
 * @property {Promise<void>} ended settles when the lab is no more, whatever the reason
 */

/**
 * Boots the lab. The checkout is at /tsvmm (writable), the stock guest's files are in /guest.
 *
 * @param {LabOptions} [options]
 * @returns {Promise<Lab>}
 */
export async function openLab(options = {}) {
  const host = await labHost();
  const qemu = await emulator(options.debugRegisters ?? false);
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-lab-'));
  const checkout = { tag: 'tsvmm', folder: ROOT, steady: true };
  const shares = options.share
    ? [checkout, { tag: 'share', folder: path.resolve(options.share), steady: false }]
    : [checkout];
  const sharing = await startSharing(shares, work);
  const tags = shares.map((share) => share.tag);
  const machine = startMachine(qemu, host, sharing.args, tags, options);
  sharing.failed.then((why) => setTimeout(machine.end, BLAME_MS, why).unref());
  const clean = () => {
    machine.child.kill('SIGKILL');
    sharing.stop();
    fs.rmSync(work, { recursive: true, force: true });
  };
  process.once('exit', clean);
  machine.exited.then(() => {
    process.off('exit', clean);
    clean();
  });
  try {
    await machine.within(BOOT_SECONDS, Promise.race([machine.link.ready, machine.failed]), () => {
      throw new Failure(`the lab did not come up within ${BOOT_SECONDS} s:\n${machine.console()}`);
    });
    // Everybody is connected: the sockets' names have done their work.
    fs.rmSync(work, { recursive: true, force: true });
  } catch (error) {
    machine.child.kill('SIGKILL');
    await machine.exited;
    throw error;
  }
  // Where time counts instructions, one CPU has too much to do.
  if (!options.icount) void watch(machine);
  return labOver(machine);
}

/**
 * An emulated host that hangs would have whoever waits for it wait for ever: it is ended, and its commands fail.
 *
 * @param {ReturnType<typeof startMachine>} machine
 */
async function watch(machine) {
  let running = true;
  const exited = machine.exited.then(() => {
    running = false;
  });
  while (running) {
    await machine.within(SILENCE_SECONDS, Promise.race([machine.link.ping(), exited]), () =>
      machine.end(`it did not answer for ${SILENCE_SECONDS} s`),
    );
    await Promise.race([new Promise((resolve) => setTimeout(resolve, PULSE_MS).unref()), exited]);
  }
}

/**
 * @param {ReturnType<typeof startMachine>} machine
 * @returns {Lab}
 */
function labOver(machine) {
  const { link } = machine;
  /** @type {Lab['start']} */
  const start = (spec) => link.start({ cwd: '/', ...spec, env: { ...spec.env } });
  return {
    start,
    ended: machine.exited,
    now: machine.now,
    within: machine.within,
    run: (command, options = {}) => runToEnd({ start, within: machine.within }, command, options),
    close: async () => {
      link.powerOff();
      await machine.within(POWER_OFF_SECONDS, machine.exited, () => {
        machine.child.kill('SIGKILL');
        return machine.exited;
      });
    },
  };
}

/**
 * @param {Pick<Lab, 'start' | 'within'>} lab
 * @param {readonly string[]} command
 * @param {RunOptions} options
 */
async function runToEnd(lab, command, options) {
  /** @type {Buffer[]} */
  const out = [];
  /** @type {Buffer[]} */
  const err = [];
  const job = lab.start({
    command,
    ...(options.cwd && { cwd: options.cwd }),
    ...(options.env && { env: options.env }),
    onStdout: (bytes) => out.push(bytes),
    onStderr: (bytes) => err.push(bytes),
  });
  if (options.input !== undefined) job.write(Buffer.from(options.input));
  job.end();
  const printed = () => ({ stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
  if (options.timeoutSeconds === undefined) return { code: await job.exited, ...printed() };
  const code = await lab.within(options.timeoutSeconds, job.exited, () => {
    job.kill(os.constants.signals.SIGKILL);
    const { stdout, stderr } = printed();
    const end = `${stdout.slice(-4000)}${stderr.slice(-4000)}`;
    throw new Failure(`${command.join(' ')} took more than ${options.timeoutSeconds} s; it printed\n${end}`);
  });
  return { code, ...printed() };
}

/**
 * @param {import('./emulator.mjs').Emulator} qemu
 * @param {import('./hostImage.mjs').LabHost} host
 * @param {readonly string[]} shareArgs
 * @param {readonly string[]} shareNames
 * @param {LabOptions} options
 */
function startMachine(qemu, host, shareArgs, shareNames, options) {
  const megabytes = options.megabytes ?? 3072;
  const modules = [...HOST_MODULES, ...(options.modules ?? [])].join(',');
  const append = [
    // An emulated timer is late on a busy machine, which the kernel's check at boot takes for a broken one. So is the
    // time stamp counter, instead of which it would read the slow HPET.
    'console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check tsc=reliable',
    `lab_modules=virtio_console,virtiofs,${modules} lab_shares=${shareNames.join(',')}`,
  ].join(' ');
  const accel = options.icount ? 'tcg,thread=single,tb-size=1024' : 'tcg,thread=multi,tb-size=1024';
  const args = [
    ...qemu.args,
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-M', 'q35,memory-backend=ram'],
    ...['-accel', accel, '-cpu', 'EPYC-Rome,+svm', '-smp', String(CPUS), '-m', String(megabytes)],
    // Shared, so that the file servers see what the lab's file systems ask of them.
    ...['-object', `memory-backend-memfd,id=ram,size=${megabytes}M,share=on`],
    ...(options.icount ? ['-icount', 'shift=0'] : []),
    ...['-kernel', host.kernel, '-initrd', host.initramfs, '-append', append],
    ...['-drive', `file=${host.disk},if=virtio,format=raw,snapshot=on`, '-device', 'virtio-rng-pci'],
    ...['-serial', 'stdio', '-chardev', 'socket,id=agent,fd=3'],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,nr=1'],
    ...shareArgs,
  ];
  // Killed along with this process, however that ends.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', qemu.file, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  let printed = '';
  const hear = (/** @type {Buffer} */ chunk) => {
    const text = chunk.toString().replace(EMULATION_WARNINGS, '');
    printed = (printed + text).slice(-20000);
    options.onConsole?.(text);
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  const link = new AgentLink(/** @type {import('node:stream').Duplex} */ (child.stdio[3]));
  /** @type {string | undefined} */
  let reason;
  /** @type {Promise<void>} */
  const exited = new Promise((resolve) => {
    child.on('close', (code, signal) => {
      reason ??= signal ? `QEMU was ended by ${signal}` : `QEMU ended with exit code ${code}`;
      resolve();
    });
    child.on('error', (error) => {
      reason ??= error.message;
      resolve();
    });
  });
  /** @type {Promise<never>} */
  const failed = exited.then(() => {
    const gone = new Failure(`the lab host is gone: ${reason}; its console ends in\n${printed.slice(-4000)}`);
    link.abandon(gone);
    throw gone;
  });
  failed.catch(() => {});
  const end = (/** @type {string} */ why) => {
    reason ??= why;
    child.kill('SIGKILL');
  };
  const now = clockOf(child.pid);
  /** @type {Lab['within']} */
  const inTime = (seconds, promise, late) => within(now, seconds, promise, late);
  return { child, link, exited, failed, end, now, within: inTime, console: () => printed };
}
