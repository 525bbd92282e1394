/**
 * The `tsvmm` command. What a VM does not need before its guest runs (help, REST, log files) is imported when it is
 * asked for: this file and its static imports are on the path from exec to the guest's first instruction.
 */
import type { GdbServer } from '../api/gdb/server.ts';
import type { RestOptions, RestServer } from '../api/rest/server.ts';
import { claimSocket, type SocketClaim } from '../api/rest/socketClaim.ts';
import { type Invocation, parseArguments, type RunOptions } from '../cli/arguments.ts';
import { BoundedOutput } from '../cli/boundedOutput.ts';
import type { Reporter } from '../cli/reporter.ts';
import { UsageError } from '../cli/usageError.ts';
import { ConfigError } from '../config/configError.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { bun } from '../host/bun.ts';
import { settleAfterBoot } from '../host/settle.ts';
import { keepIgnoredSignals, onSignal, refuseInspector } from '../host/signals.ts';
import { sleep } from '../host/sleep.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { describeError, wasCalledOff, wasUnanswered } from '../vmm/errors.ts';
import { EventLog } from '../vmm/eventLog.ts';
import type { VmmExit } from '../vmm/events.ts';
import { printable } from '../vmm/printable.ts';
import { Vmm } from '../vmm/vmm.ts';

const STDERR = 2;
const STANDARD_INPUT = 0;
const ESCAPE_TEXT = 'Ctrl-A x ends the VM';
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** The subcommand that runs a VM. */
const VM_PROCESS = 'vmhost';

/** Who sends a signal waits for the process, and kills it sooner or later. */
const SIGNAL_TIMEOUT_MS = 3_000;
/** For messages and answers of the REST socket, in a process that leaves threads behind. */
const END_GRACE_MS = 500;
/** What a start takes, or most of it, from where the core has it in its hands. */
const START_MS = 2;

async function main(args: readonly string[]): Promise<void> {
  if (!bun) refuseInspector();
  let code: number;
  try {
    code = await (maybeSubcommand(args) ? subcommand(args) : machine(args));
  } catch (error) {
    code = await fail(error, args[0]);
  }
  await stderr?.close();
  process.exit(code);
}

/**
 * Says why, and what to write instead where that is known.
 * @param word the first of the command line: a subcommand has its own help
 * @returns the exit code
 */
async function fail(error: unknown, word: string | undefined): Promise<number> {
  if (!(error instanceof UsageError) && !(error instanceof ConfigError)) {
    say(describeError(error));
    return EXIT_FAILURE;
  }
  const { advice } = await import('../cli/advice.ts');
  say(error.message + advice(error.subject));
  if (error instanceof ConfigError) return EXIT_FAILURE;
  const { findSubcommand } = await import('../cli/subcommands.ts');
  say(`try 'tsvmm ${findSubcommand(word) ? `${word} ` : ''}--help'`);
  return EXIT_USAGE;
}

/** The core begins with what is the same for every VM, on a thread of its own, while the rest is got ready here. */
function headStart(soon: boolean): void {
  try {
    loadNative().precreateVm(soon);
  } catch {
    // Said when the VM is started, should that be what the words ask for.
  }
}

/** Perhaps: the table of them is loaded then only. */
function maybeSubcommand([word = '-']: readonly string[]): boolean {
  return !word.startsWith('-');
}

async function subcommand(args: readonly string[]): Promise<number> {
  if (args[0] === VM_PROCESS) headStart(false);
  const { findSubcommand } = await import('../cli/subcommands.ts');
  const run = findSubcommand(args[0]);
  return run ? run(args.slice(1)) : machine(args);
}

function machine(args: readonly string[]): Promise<number> {
  if (namesPayload(args)) headStart(true);
  return act(parseArguments(args));
}

function namesPayload(args: readonly string[]): boolean {
  for (const word of args) if (word.startsWith('--kernel') || word.startsWith('--firmware')) return true;
  return false;
}

/** Made when there is something to say. */
let stderr: BoundedOutput | undefined;

/** Without waiting for its reader, and not by console.error, which Bun colours. */
function openStderr(): BoundedOutput {
  stderr ??= new BoundedOutput(writeToStderr, (lost) =>
    lineOf(`warning: ${lost} messages were lost, because nobody read them`),
  );
  return stderr;
}

function writeToStderr(bytes: Uint8Array): number {
  let native: NativeAddon;
  try {
    native = loadNative();
  } catch {
    // There is no VM then.
    process.stderr.write(bytes);
    return bytes.length;
  }
  return native.writeNow(STDERR, bytes);
}

function lineOf(message: string): string {
  // A guest's console may have put the terminal into raw mode.
  return `tsvmm: ${printable(message)}${process.stderr.isTTY ? '\r\n' : '\n'}`;
}

/** One human-readable line on stderr. */
function say(message: string): void {
  openStderr().write(lineOf(message));
}

/** Returns when all of it is written: the process ends then. */
async function print(text: string): Promise<number> {
  const { writeOut } = await import('../cli/standardOutput.ts');
  await writeOut(text);
  return 0;
}

function act(invocation: Invocation): Promise<number> {
  return invocation.action === 'run' ? run(invocation.options) : tell(invocation);
}

/** What is asked for instead of running anything. */
async function tell(invocation: Exclude<Invocation, { readonly action: 'run' }>): Promise<number> {
  switch (invocation.action) {
    case 'help': {
      const { helpText } = await import('../cli/help.ts');
      return print(helpText(invocation.option));
    }
    case 'man': {
      const { manPage } = await import('../cli/manPage.ts');
      return print(manPage());
    }
    case 'completions': {
      const { completions } = await import('../cli/completions.ts');
      return print(completions(invocation.shell));
    }
    case 'restore': {
      const { refuseRestore } = await import('../cli/restore.ts');
      return refuseRestore(invocation.text);
    }
    case 'version': {
      const { versionText } = await import('../cli/versionText.ts');
      return print(versionText(process.argv0, invocation.verbose));
    }
    case 'openapi': {
      const { openApiDocument } = await import('../api/rest/openApi.ts');
      const { writeJson } = await import('../api/rest/jsonWriter.ts');
      return print(`${writeJson(openApiDocument(), '  ')}\n`);
    }
  }
}

async function run(options: RunOptions): Promise<number> {
  // Sockets and files are the user's alone.
  process.umask(0o077);
  const native = loadNative();
  const reporter = needsReporter(options) ? await openReporter(native, options) : undefined;
  const warn = reporter?.warn ?? ((message: string) => say(`warning: ${message}`));
  const hasApi = options.apiSocket !== undefined || options.apiTls !== undefined;
  const events = hasApi ? new EventLog() : undefined;
  const vmm = new Vmm({
    native,
    stayOnPowerOff: options.noShutdown,
    onWarning: warn,
    ...(reporter && { onNote: reporter.note, outputs: reporter.files }),
    onEvent: (event) => {
      if (event.event === 'booted') settleAfterBoot();
      reporter?.event(event);
      events?.add(event);
    },
  });
  const starting = { source: 'vmm', event: 'starting' } as const;
  reporter?.event(starting);
  events?.add(starting);
  // A log on stderr has what is said anyway.
  const logError = (message: string) => options.logFile !== undefined && reporter?.error(message);
  try {
    return await new Session(vmm, native, options, { events, logError, warn }).run();
  } catch (error) {
    logError(describeError(error));
    throw error;
  } finally {
    await reporter?.close();
  }
}

function needsReporter({ verbosity, logFile, logFormat, eventMonitor }: RunOptions): boolean {
  return verbosity > 0 || logFile !== undefined || logFormat !== undefined || eventMonitor !== undefined;
}

async function openReporter(native: NativeAddon, options: RunOptions): Promise<Reporter> {
  const { openReporter: open } = await import('../cli/reporter.ts');
  return open(native, options, openStderr());
}

/** Where it is told what happens. */
interface Reports {
  /** What the API tells of. */
  readonly events: EventLog | undefined;
  readonly logError: (message: string) => void;
  readonly warn: (message: string) => void;
}

/** A VMM as a process: its socket, its signals and its end. */
class Session {
  private readonly vmm: Vmm;
  private readonly native: NativeAddon;
  private readonly options: RunOptions;
  private readonly reports: Reports;
  private claim: SocketClaim | undefined;
  private readonly servers: RestServer[] = [];
  private gdb: GdbServer | undefined;
  /** The terminal is gone. */
  private hungUp = false;
  /** A signal asked for the end. */
  private quitting = false;

  constructor(vmm: Vmm, native: NativeAddon, options: RunOptions, reports: Reports) {
    this.vmm = vmm;
    this.reports = reports;
    this.native = native;
    this.options = options;
  }

  /** @returns the exit code. @throws VmmError if the VM or the socket cannot be started */
  async run(): Promise<number> {
    process.on('exit', () => this.cleanUp());
    // Child processes of network devices would have signals wait for good; on Node.js none is ignored before.
    if (!bun || this.options.vm?.net) this.heedSignals();
    else this.heedSignalsSoon();
    try {
      await this.start();
    } catch (error) {
      await this.vmm.quit().catch(() => {});
      // A start that a signal, or vmm.shutdown, called off is no failure, unless it had begun to wait for a file.
      if (this.quitting ? wasUnanswered(error) : !wasCalledOff(error)) {
        await this.closeServers();
        throw error;
      }
    }
    const exit: VmmExit = await this.vmm.exited;
    if (exit.message !== undefined) {
      say(exit.message);
      this.reports.logError(exit.message);
    }
    if (exit.incomplete) return this.exitAtOnce(exit.code);
    this.gdb?.close();
    await this.closeServers();
    if (this.hungUp) this.leaveTerminal();
    return exit.code;
  }

  /** What concerns the socket is claimed first and loaded last: the guest does not wait for it. */
  private async start(): Promise<void> {
    const { apiSocket, apiTls, gdb, vm } = this.options;
    if (gdb !== undefined) {
      const { serveGdb } = await import('../api/gdb/server.ts');
      this.gdb = await serveGdb(this.vmm, this.native, gdb);
      this.vmm.debugger = this.gdb;
    }
    if (apiTls !== undefined) await this.serveWithTls(apiTls);
    if (apiSocket) this.claim = claimSocket(this.native, apiSocket);
    const started = vm && this.startVm(vm);
    if (this.claim) await Promise.all([started, this.serve(this.claim, started)]);
    else await started;
    if (!vm) await this.rehearse();
  }

  /** Without a VM: the first boot then finds much of its work done. */
  private async rehearse(): Promise<void> {
    const { rehearseWhile } = await import('../vmm/rehearsal.ts');
    await rehearseWhile(this.native, () => this.vmm.state === 'none' && !this.vmm.ended);
  }

  private async closeServers(): Promise<void> {
    const closing: Promise<void>[] = [];
    for (const server of this.servers) closing.push(server.close());
    if (closing.length > 0) await Promise.all(closing);
  }

  private async startVm(vm: VmConfig): Promise<void> {
    await this.vmm.create(vm);
    const isTerminal = vm.serial.mode === 'Tty' || vm.console.mode === 'Tty';
    if (isTerminal && this.native.terminalSize(STANDARD_INPUT)) say(ESCAPE_TEXT);
    await this.vmm.boot();
  }

  /** Not while a VM starts, unless that takes long: the start may want this CPU. */
  private async serve(claim: SocketClaim, started: Promise<void> | undefined): Promise<void> {
    if (started) {
      await new Promise<void>((resolve) => {
        setTimeout(resolve, START_MS);
        started.then(resolve, resolve);
      });
    }
    const { serveRest } = await import('../api/rest/server.ts');
    this.servers.push(serveRest(this.vmm, claim, this.native, await this.restOptions()));
  }

  private async serveWithTls(text: string): Promise<void> {
    const { readApiTls } = await import('../cli/apiTls.ts');
    const options = readApiTls(text);
    const { serveRestWithTls } = await import('../api/rest/tlsServer.ts');
    const rest = await this.restOptions();
    this.servers.push(await serveRestWithTls(this.vmm, options, this.native, this.reports.warn, rest));
  }

  private async restOptions(): Promise<RestOptions> {
    const errors = this.options.apiStrict
      ? (await import('../api/rest/strictErrors.ts')).strictErrors
      : undefined;
    const { events } = this.reports;
    return { ...(events && { events }), ...(errors && { errors }) };
  }

  /** In the turn in which the VM's start is in the core's hands: the guest does not wait for it. */
  private heedSignalsSoon(): void {
    this.native.holdSignals();
    setImmediate(() => {
      this.heedSignals();
      this.native.releaseSignals();
    });
  }

  /** Signals end the VM in order. */
  private heedSignals(): void {
    const quit = () => {
      this.quitting = true;
      this.vmm.quit(SIGNAL_TIMEOUT_MS).catch((error) => this.giveUp(error));
    };
    keepIgnoredSignals();
    onSignal('SIGTERM', quit);
    onSignal('SIGINT', quit);
    onSignal('SIGHUP', () => {
      this.hungUp = true;
      quit();
    });
    const { apiSocket, apiTls, vm } = this.options;
    if (apiSocket || apiTls !== undefined || vm?.console.mode === 'Tty') {
      onSignal('SIGWINCH', () => this.vmm.resizeConsole().catch(() => {}));
    }
  }

  /** The terminal and the sockets are looked after however the process ends. */
  private cleanUp(): void {
    this.vmm.abandon();
    this.gdb?.close();
    this.claim?.release();
  }

  /** The end did not come in time: something that it waits for does not answer. */
  private async giveUp(error: unknown): Promise<void> {
    // Where the VMM itself has come to its end, run() goes on.
    if (this.vmm.ended) return;
    say(describeError(error));
    await this.exitAtOnce(EXIT_FAILURE);
  }

  /** For a process with threads that may be stuck: an orderly exit could wait for them, or free what they use. */
  private async exitAtOnce(code: number): Promise<never> {
    const said = new Promise((resolve) => process.stderr.write('', resolve));
    await Promise.race([Promise.all([said, this.closeServers()]), sleep(END_GRACE_MS)]);
    this.cleanUp();
    return this.native.exitAtOnce(code);
  }

  /** Node.js aborts if it cannot set the modes of a terminal that it knew at start, unless the descriptor is closed. */
  private leaveTerminal(): void {
    for (const fd of [0, 1, 2]) {
      try {
        this.native.closeFile(fd);
      } catch {
        // Closed from the start.
      }
    }
  }
}

// Last, because it runs at once.
void main(process.argv.slice(2));
