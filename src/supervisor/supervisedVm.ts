/** One VM under a supervisor: its definition, its process, and its restarts. */
import { VmhostClient } from '../api/vmhost/client.ts';
import { forgetExit, readExit } from '../api/vmhost/exitRecord.ts';
import { VmFile } from '../api/vmhost/folderFiles.ts';
import { sleep } from '../host/sleep.ts';
import { describeError, VmmError } from '../vmm/errors.ts';
import type { ChildMessage } from './childLink.ts';
import type { Child } from './children.ts';
import type { Definition } from './definition.ts';
import type { DefinitionProblem, StoredDefinition } from './definitionStore.ts';
import type { SupervisorEvent } from './eventHistory.ts';
import { processOf, watchFound } from './foundChild.ts';
import { HeldDefinition } from './heldDefinition.ts';
import { isAlive, killProcess, type ProcessIdentity } from './processIdentity.ts';
import { Restarts, startsAgain } from './restarts.ts';
import { Stopwatch } from './stopwatch.ts';
import {
  hasFailed,
  type LastExit,
  reasonOfEnd,
  type StateReason,
  type VmDescription,
  type VmState,
} from './vmState.ts';

export interface SupervisedVmContext {
  readonly folder: string;
  /** The number of the run that this process is, which no other run is given. */
  runId(process: ProcessIdentity): number;
  /** A process that starts the VM. */
  startChild(paused: boolean): Promise<Child>;
  /** Puts the process under the VM's limits. @returns what could not be done */
  limit(pid: number): string | undefined;
  /** Whether it was started and not stopped. */
  wanted(): boolean;
  setWanted(wanted: boolean): void;
  /** Has what was changed in the folder by hand given to `redefine`. */
  reload(): void;
  report(event: Pick<SupervisorEvent, 'source' | 'event' | 'properties'>): void;
}

/** Between attempts to reach a process that does not answer: it may be about to, or to go. */
const RECONNECT = { firstMs: 100, maxMs: 5_000 };
/** How long a process may take to end once its VM has, or once it was killed. */
const END_MS = 15_000;

export class SupervisedVm {
  readonly #context: SupervisedVmContext;
  readonly #held: HeldDefinition;
  #state: VmState = 'stopped';
  #child: Child | undefined;
  #process: ProcessIdentity | undefined;
  /** Since the start of the last run. */
  #run: Stopwatch | undefined;
  #lastExit: LastExit | undefined;
  #lastError: string | undefined;
  readonly #restarts = new Restarts();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** A stop was asked for. */
  #stopping = false;
  #ended: (() => void)[] = [];
  #runId: number | undefined;
  #startedWith: Definition['config'] | undefined;
  #paused = false;
  #reason: StateReason | undefined;
  #forced = false;
  /** Counts stops that were asked for. */
  #stops = 0;
  #detached = false;

  constructor(stored: StoredDefinition, context: SupervisedVmContext) {
    this.#held = new HeldDefinition(stored);
    this.#context = context;
  }

  /** What cannot be read of it is as it was read last, or as if nothing had been said: see `problem`. */
  get definition(): Definition {
    return this.#held.definition;
  }

  /** What of the definition cannot be read now. */
  get problem(): DefinitionProblem | undefined {
    return this.#held.problem;
  }

  /** Undefined if it could never be read. */
  get config(): Definition['config'] | undefined {
    return this.#held.config;
  }

  /** Undefined if it could never be read. */
  get policy(): Definition['policy'] | undefined {
    return this.#held.policy;
  }

  get state(): VmState {
    return this.problem !== undefined && !this.goesOn ? 'broken' : this.#state;
  }

  /** What the present run was started with; undefined while there is none, or if another supervisor started it. */
  get startedWith(): Definition['config'] | undefined {
    return this.alive ? this.#startedWith : undefined;
  }

  /** Of the present run; undefined while there is none. */
  get runId(): number | undefined {
    return this.alive ? this.#runId : undefined;
  }

  get paused(): boolean {
    return this.alive && this.#paused;
  }

  get reason(): StateReason | undefined {
    return this.#reason;
  }

  get folder(): string {
    return this.#context.folder;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Whether there is a process. */
  get alive(): boolean {
    return !['stopped', 'failed', 'waiting'].includes(this.#state);
  }

  /** Whether it runs, or will without being asked to. */
  get goesOn(): boolean {
    return this.alive || this.#state === 'waiting';
  }

  describe(): VmDescription {
    const error = this.problem?.reason ?? this.#lastError;
    return {
      name: this.#name,
      state: this.state,
      ...(this.paused && { paused: true }),
      ...(this.#process && { pid: this.#process.pid }),
      ...(this.#run !== undefined &&
        this.alive && {
          started_at: this.#run.begun.toISOString(),
          uptime_seconds: Math.floor(this.#run.elapsedMs / 1000),
        }),
      ...(this.#lastExit && { last_exit: this.#lastExit }),
      ...(error !== undefined && { error }),
      restarts: this.#restarts.count,
      folder: this.#context.folder,
      ...this.#held.describe(),
    };
  }

  get #name(): string {
    return this.definition.name;
  }

  /** Takes effect at the next start, which a `problem` with the definition prevents. */
  redefine(stored: StoredDefinition): void {
    this.#held.replace(stored);
  }

  /**
   * Seconds that a stop may take which says nothing of that.
   * @throws VmmError if the policy could never be read: a guest that needs longer must not be ended by force
   */
  get stopTimeout(): number {
    if (this.policy) return this.policy.stop_timeout;
    throw new VmmError(`${this.#broken()}: say how many seconds a stop may take, or end it by force`, {
      kind: 'conflict',
    });
  }

  /**
   * Resolves when the guest runs, or could, if it is to be `paused` before its first instruction.
   * @throws VmmError why it does not
   */
  async start({ paused = false }: { readonly paused?: boolean } = {}): Promise<void> {
    if (this.alive) throw new VmmError(`The VM ${this.#name} is ${this.#state}`, { kind: 'conflict' });
    this.#checkDefinition();
    clearTimeout(this.#timer);
    this.#restarts.forget();
    this.#context.setWanted(true);
    await this.#start(paused);
  }

  /**
   * Ends the VM: in order within the time, else by force; without any time by force at once. Resolves when its process
   * is gone; at once if there is none.
   * @throws VmmError if it does not go
   */
  async stop(seconds: number, byForce = false): Promise<void> {
    const force = byForce || seconds === 0;
    this.#stops++;
    this.#context.setWanted(false);
    if (!this.alive) {
      clearTimeout(this.#timer);
      const wasWaiting = this.#state === 'waiting';
      this.#state = 'stopped';
      if (wasWaiting) this.#tell('restart-cancelled');
      return;
    }
    // A timer that runs now looks for a process that does not answer, and so sees it end.
    this.#stopping = true;
    this.#forced ||= force;
    this.#state = 'stopping';
    const gone = this.#gone((seconds + END_MS / 1000) * 1000);
    const client = new VmhostClient(`${this.#context.folder}/${VmFile.controlSocket}`);
    // Not waited for: a process that hangs is killed when its time is over, whatever it answers.
    (force ? client.forceStop() : client.stop(seconds)).catch((error) => this.#kill(describeError(error)));
    if (await gone) return;
    this.#kill('it did not end in time');
    if (!(await this.#gone(END_MS))) {
      throw new VmmError(`The process ${this.pid} of ${this.#name} does not end, though it was killed`);
    }
  }

  /**
   * Stops and starts it. A stop that is asked for meanwhile prevails.
   * @throws VmmError if it does not go, or start; with nothing done if the definition cannot be read
   */
  async restart(seconds: number, byForce = false): Promise<void> {
    this.#checkDefinition();
    const stopped = this.stop(seconds, byForce);
    const own = this.#stops;
    await stopped;
    if (this.#stops !== own) {
      throw new VmmError(`The VM ${this.#name} was stopped meanwhile, and is not started again`, {
        kind: 'conflict',
      });
    }
    await this.start();
  }

  /**
   * Takes a process over that is there already. Resolves when that is decided.
   * @param seen working in the folder
   */
  async adopt(seen?: ProcessIdentity): Promise<void> {
    const process = processOf(this.#context.folder) ?? seen;
    if (process === undefined) return this.#findEnd();
    this.#process = process;
    await this.#reconnect();
  }

  /** Without a process: how it ended, if it ran while no supervisor did. */
  #findEnd(): void {
    const wanted = this.#context.wanted();
    const exit = readExit(this.#context.folder) ?? (wanted ? { reason: 'killed' as const } : undefined);
    if (exit === undefined) return;
    this.#lastExit = exit;
    this.#reason = reasonOfEnd(exit, this.#stopping, this.#forced);
    this.#state = hasFailed(exit) ? 'failed' : 'stopped';
    if (!wanted || this.problem !== undefined) return;
    if (!startsAgain(this.definition.policy.restart, hasFailed(exit))) this.#context.setWanted(false);
    this.#tellEnd(exit);
  }

  /** @throws VmmError if the definition, as it is now, cannot be read */
  #checkDefinition(): void {
    this.#context.reload();
    if (this.problem === undefined) return;
    throw new VmmError(this.#broken(), { kind: 'conflict' });
  }

  #broken(): string {
    return `The definition of the VM ${this.#name} is broken: ${this.problem?.reason}`;
  }

  /** Lets go of the process, which lives on. */
  detach(): void {
    this.#detached = true;
    clearTimeout(this.#timer);
    this.#child?.close();
  }

  async #start(paused = false): Promise<void> {
    this.#state = 'starting';
    this.#startedWith = this.definition.config;
    this.#stopping = false;
    this.#lastError = undefined;
    this.#lastExit = undefined;
    this.#run = new Stopwatch();
    try {
      await this.#attachStarting(await this.#launch(paused));
    } catch (error) {
      this.#lastError = describeError(error);
      this.#tell('start-failed', { reason: this.#lastError });
      throw new VmmError(`The VM ${this.#name} could not start`, { cause: error });
    }
  }

  async #launch(paused: boolean): Promise<Child> {
    try {
      forgetExit(this.#context.folder);
      const child = await this.#context.startChild(paused);
      this.#process = child.process;
      if (this.#stopping) this.#kill('it was stopped while it started');
      const problem = this.#context.limit(child.process.pid);
      if (problem !== undefined) this.#tell('warning', { message: problem });
      return child;
    } catch (error) {
      this.#afterEnd(true, 0, () => {});
      throw error;
    }
  }

  /** Waits for the process's verdict. */
  #attachStarting(child: Child): Promise<void> {
    return new Promise((resolve, reject) => {
      const seconds = this.definition.policy.start_timeout;
      const timer = setTimeout(() => {
        this.#kill(`it was not up after ${seconds} s`);
        reject(new Error(`It was not up after ${seconds} s`));
      }, seconds * 1000);
      const decide = (settle: () => void) => {
        clearTimeout(timer);
        settle();
      };
      this.#child = child;
      child.hear(
        (message) => {
          if (message.ok === true) {
            this.#running(message.paused === true);
            decide(resolve);
          } else if (message.ok === false) {
            const { error = 'no reason given' } = message;
            this.#lastExit = { reason: 'start-failed', code: 1, message: error };
            // What comes next is decided when the process is gone.
            decide(() => void this.#gone(END_MS).then(() => reject(new Error(error))));
          } else {
            this.#hear(message);
          }
        },
        () => {
          void this.#lost(child).then(() =>
            decide(() => reject(new Error(`Its process ended; ${VmFile.log} in its folder says why`))),
          );
        },
      );
    });
  }

  #running(paused: boolean): void {
    if (!this.#stopping) this.#state = 'running';
    this.#begin(paused ? 'paused' : 'booted', paused);
    this.#tell('started', { pid: String(this.pid) });
  }

  #begin(reason: StateReason | undefined, paused: boolean): void {
    this.#runId = this.#context.runId(this.#process as ProcessIdentity);
    this.#paused = paused;
    this.#forced = false;
    this.#reason = reason;
  }

  #hear({ event, exit }: ChildMessage): void {
    if (exit) this.#lastExit = exit;
    if (event === undefined) return;
    if (event.source === 'vm' && (event.event === 'paused' || event.event === 'resumed')) {
      this.#paused = event.event === 'paused';
      this.#reason = event.event;
    }
    this.#context.report(event);
  }

  /** The connection is gone: so is the process, usually. */
  async #lost(child: Child): Promise<void> {
    if (this.#detached || this.#child !== child) return;
    this.#child = undefined;
    if (await this.#processGone(this.#process as ProcessIdentity)) return this.#hasEnded();
    await this.#reconnect();
  }

  /** A process whose VM has ended needs a moment to go. */
  async #processGone(process: ProcessIdentity): Promise<boolean> {
    for (let waited = 0; waited < 1_000; waited += 20) {
      if (!isAlive(process)) return true;
      await sleep(20);
    }
    return !isAlive(process);
  }

  async #reconnect(nextMs = RECONNECT.firstMs): Promise<void> {
    try {
      const { child, paused, uptimeSeconds } = await watchFound(
        this.#context.folder,
        this.#process as ProcessIdentity,
      );
      if (this.#detached) return child.close();
      this.#child = child;
      if (!this.#stopping) this.#state = 'running';
      if (this.#runId === undefined) this.#begin(undefined, paused);
      this.#paused = paused;
      this.#run ??= new Stopwatch(uptimeSeconds * 1000);
      child.hear(
        (message) => this.#hear(message),
        () => void this.#lost(child),
      );
      this.#tell('adopted', { pid: String(this.pid) });
    } catch (error) {
      if (this.#detached) return;
      if (!isAlive(this.#process as ProcessIdentity)) return this.#hasEnded();
      if (this.#state !== 'stopping') this.#state = 'unresponsive';
      this.#lastError = describeError(error);
      this.#timer = setTimeout(() => void this.#reconnect(Math.min(2 * nextMs, RECONNECT.maxMs)), nextMs);
    }
  }

  #hasEnded(): void {
    const wasStarting = this.#state === 'starting';
    const ranMs = this.#run?.elapsedMs ?? 0;
    const exit = this.#lastExit ?? readExit(this.#context.folder) ?? { reason: 'killed' as const };
    this.#lastExit = exit;
    this.#process = undefined;
    this.#runId = undefined;
    this.#startedWith = undefined;
    this.#reason = reasonOfEnd(exit, this.#stopping, this.#forced);
    this.#afterEnd(wasStarting || hasFailed(exit), ranMs, () => this.#tellEnd(exit));
  }

  #tellEnd(exit: LastExit): void {
    this.#tell('stopped', {
      reason: exit.reason,
      ...('message' in exit && exit.message ? { message: exit.message } : {}),
    });
  }

  /** Without a process: the state is what follows from that before anybody is told. */
  #afterEnd(failed: boolean, ranMs: number, tell: () => void): void {
    const { policy } = this;
    const delay = this.#stopping || !policy ? undefined : this.#restarts.next(policy.restart, failed, ranMs);
    // Without a policy that is for the next supervisor to say, which may read one.
    if (!this.#stopping && policy && delay === undefined) this.#context.setWanted(false);
    if (delay !== undefined) this.#state = 'waiting';
    else this.#state = failed && !this.#stopping ? 'failed' : 'stopped';
    this.#stopping = false;
    for (const resolve of this.#ended.splice(0)) resolve();
    tell();
    if (delay === undefined) return;
    this.#tell('restarting', { after_ms: String(delay) });
    this.#timer = setTimeout(() => this.#restart(), delay);
  }

  #restart(): void {
    try {
      this.#checkDefinition();
    } catch (error) {
      this.#state = 'failed';
      this.#context.setWanted(false);
      this.#tell('start-failed', { reason: describeError(error) });
      return;
    }
    // Told as an event; its end decides what comes next.
    this.#start().catch(() => {});
  }

  #kill(reason: string): void {
    if (this.#process === undefined) return;
    this.#tell('killed', { reason });
    killProcess(this.#process);
  }

  /** True once there is no process, false after that time. */
  #gone(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      if (!this.alive) return resolve(true);
      const timer = setTimeout(() => resolve(false), ms);
      this.#ended.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  #tell(event: string, properties?: Readonly<Record<string, string>>): void {
    this.#context.report({ source: 'supervisor', event, ...(properties && { properties }) });
  }
}
