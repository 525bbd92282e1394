/** The stock guest with tools in it, for tests of devices: boots it and runs commands inside. */
import { Duplex } from 'node:stream';
import { AgentLink, type Job } from '../../scripts/lab/agentLink.mjs';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { IN_EMULATION } from '../../scripts/lab/otherGuests.mjs';
import { type ApiAnswer, api, guestFiles, sharedLab, VmmSession } from './harness.ts';

/** A nested guest boots in some 8 s of the lab's own time (scripts/lab/labTime.mjs). */
const BOOT_SECONDS = 120;

/** What a command takes at most unless told otherwise, by the same time. */
const COMMAND_SECONDS = 120;

/** The terminals that the agent in the guest can use: virtio-console or the first serial port. */
type AgentTerminal = 'hvc0' | 'ttyS0';

export interface GuestOptions {
  /** Options of tsvmm besides kernel, initramfs, command line, serial port, console and API socket. */
  readonly args?: readonly string[];
  /** More words for the kernel's command line. */
  readonly cmdline?: string;
  /** 1 unless given. */
  readonly cpus?: number;
  /** As many as at boot unless given. */
  readonly maxCpus?: number;
  /** As in `--memory size=...`, with whatever else that option takes; 512M unless given. */
  readonly memory?: string;
  /** What commands go through; hvc0 unless given, for the sake of speed. The kernel's messages go to the other one. */
  readonly agent?: AgentTerminal;
  /** What starts the VMM: words that go before its path, such as `ip netns exec NAME`. */
  readonly wrapper?: readonly string[];
  readonly runtime?: 'executable' | 'node';
  /** Paths in the lab of another kernel and its initramfs (`otherWorkshop`). */
  readonly payload?: { readonly kernel: string; readonly initramfs: string };
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Standard input; empty unless given. */
  readonly input?: string;
  /** After which the command is killed and the test fails; 120 unless given. */
  readonly timeoutSeconds?: number;
}

let guests = 0;

/** A running VM whose guest runs commands for the test. */
export class LabGuest {
  readonly lab: Lab;
  /** Path of the REST socket in the lab. */
  readonly socket: string;
  /** The process of the VMM; its standard streams carry the guest's terminal. */
  readonly vmm: VmmSession;
  readonly #link: AgentLink;
  readonly #messages: string;

  private constructor(lab: Lab, options: GuestOptions) {
    const name = `/tmp/guest${guests++}`;
    this.lab = lab;
    this.socket = `${name}.sock`;
    this.#messages = `${name}.log`;
    this.vmm = new VmmSession(lab, vmmArgs(options, this.socket, this.#messages), {
      runtime: options.runtime ?? 'executable',
      wrapper: options.wrapper ?? [],
    });
    this.#link = new AgentLink(terminalOf(this.vmm), true);
    this.vmm.ended.then((why) => this.#link.abandon(new Error(why)));
  }

  /** Boots a guest in the shared lab and waits until it can run commands. */
  static async boot(options: GuestOptions = {}): Promise<LabGuest> {
    const guest = new LabGuest(await sharedLab(), options);
    await guest.#upWithin(guest.#link.ready);
    return guest;
  }

  /** Runs a command in the guest to its end, whatever its exit code. Words are passed as they are: no shell. */
  async run(command: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const out: Uint8Array[] = [];
    const err: Uint8Array[] = [];
    const job = this.start(command, out, err);
    if (options.input !== undefined) job.write(Buffer.from(options.input));
    job.end();
    const text = (chunks: Uint8Array[]) => Buffer.concat(chunks).toString();
    const seconds = options.timeoutSeconds ?? COMMAND_SECONDS;
    const code = await this.lab.within(seconds, job.exited, async () => {
      job.kill(9);
      const printed = `${text(out)}${text(err)}`;
      const what = `"${command.join(' ')}" took more than ${seconds} s; it printed\n${printed}`;
      throw new Error(`${what}\n${await this.#story()}`);
    });
    return { code, stdout: text(out), stderr: text(err) };
  }

  /** Runs a line of shell in the guest and returns what it printed. Fails if its exit code is not 0. */
  async sh(line: string, options: CommandOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(['sh', '-c', line], options);
    if (code !== 0) throw new Error(`in the guest: "${line}" ended with ${code}:\n${stdout}${stderr}`);
    return stdout;
  }

  /** Starts a command in the guest; what it prints is added to the lists. */
  start(command: readonly string[], out: Uint8Array[] = [], err: Uint8Array[] = []): Job {
    const job = this.#link.start({
      command,
      cwd: '/root',
      env: {},
      onStdout: (bytes) => out.push(bytes),
      onStderr: (bytes) => err.push(bytes),
    });
    // Nobody needs to wait for what ends along with the VMM.
    job.exited.catch(() => {});
    return job;
  }

  /** A request to the VMM's REST socket. */
  api(method: 'GET' | 'PUT', endpoint: string, body?: unknown): Promise<ApiAnswer> {
    return api(this.lab, this.socket, method, endpoint, body);
  }

  /** Waits until a guest that was told to restart runs commands again. */
  async rebooted(trigger: () => Promise<unknown>): Promise<void> {
    const ready = new Promise<void>((resolve) => this.#link.once('ready', resolve));
    await trigger();
    await this.#upWithin(ready);
  }

  /** Powers the guest off and returns the VMM's exit code. */
  powerOff(): Promise<number> {
    this.#link.powerOff();
    return this.vmm.exitCode();
  }

  /** The kernel's messages on the terminal that the agent does not use. */
  async kernelMessages(): Promise<string> {
    return (await this.lab.run(['cat', this.#messages], { timeoutSeconds: COMMAND_SECONDS })).stdout;
  }

  async #upWithin(ready: Promise<void>): Promise<void> {
    const ended = this.vmm.ended.then((why) => {
      throw new Error(`${why}, before the guest was up:\n${this.vmm.errors}`);
    });
    ended.catch(() => {});
    await this.lab.within(BOOT_SECONDS, Promise.race([ready, ended]), async () => {
      this.vmm.signal('SIGKILL');
      throw new Error(`the guest did not come up within ${BOOT_SECONDS} s;\n${await this.#story()}`);
    });
  }

  async #story(): Promise<string> {
    return `stderr of the VMM:\n${this.vmm.errors}\nkernel:\n${(await this.kernelMessages()).slice(-3000)}`;
  }
}

/** Waits until a line of shell in the guest succeeds. */
export function eventually(guest: LabGuest, line: string): Promise<string> {
  return guest.sh(`for i in $(seq 100); do ${line} && exit 0; usleep 200000; done; dmesg | tail -30; exit 1`);
}

function vmmArgs(options: GuestOptions, socket: string, messages: string): string[] {
  const agent = options.agent ?? 'hvc0';
  const payload = options.payload ?? { kernel: guestFiles.vmlinux, initramfs: guestFiles.workshop };
  const [kernelConsole, terminals] =
    agent === 'hvc0'
      ? ['ttyS0', ['--console', 'tty', '--serial', `file=${messages}`]]
      : ['hvc0', ['--serial', 'tty', '--console', `file=${messages}`]];
  const most = options.maxCpus === undefined ? '' : `,max=${options.maxCpus}`;
  const cpus = `boot=${options.cpus ?? 1}${most}`;
  return [
    ...['--kernel', payload.kernel, '--initramfs', payload.initramfs],
    ...[
      '--cmdline',
      `console=${kernelConsole} quiet ${IN_EMULATION} agent=${agent} ${options.cmdline ?? ''}`.trim(),
    ],
    ...['--cpus', cpus, '--memory', `size=${options.memory ?? '512M'}`],
    ...terminals,
    ...['--api-socket', socket],
    ...(options.args ?? []),
  ];
}

/** The VMM's standard streams as the stream of frames that the agent's link wants. */
function terminalOf(vmm: VmmSession): Duplex {
  const stream = new Duplex({
    read() {},
    write(chunk: Uint8Array, _encoding, done) {
      vmm.write(chunk);
      done();
    },
  });
  vmm.onStdout((bytes) => stream.push(bytes));
  return stream;
}
