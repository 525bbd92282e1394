/**
 * The internal API. One `Vmm` holds at most one VM; the command line, the REST API and the library are front ends of
 * it. Commands that change something are carried out one after the other, and each is answered once, in order; what a
 * guest does to its machine (power-off, reset, failure) takes its place in the same queue.
 */

import { checkBootable } from '../config/bootable.ts';
import type { ReceiveMigrationData, SendMigrationData } from '../config/migration.ts';
import type { VmResize } from '../config/requests.ts';
import type { RestoreConfig } from '../config/restore.ts';
import type { Uint64 } from '../config/uint64.ts';
import { validateConsoles, validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { completeDevices, type DeviceName, keepId } from '../devices/registry.ts';
import type { Abortable } from '../host/abort.ts';
import type { MachineEvent, MachineHandle, NativeAddon, VcpuStatistics } from '../native.ts';
import { checkFilesAnswer } from './answeringFiles.ts';
import type { CommandedVm } from './commandedVm.ts';
import { CommandQueue } from './commandQueue.ts';
import type { ConsoleSize, Consoles } from './consoles.ts';
import { DebugControl } from './debugControl.ts';
import type { DebuggerHooks, DebugOrders, DebugTraps, StoppedMachine } from './debugged.ts';
import { addVmDevice, removeVmDevice } from './deviceCommands.ts';
import { describeError, refuseInvalid, VmmError } from './errors.ts';
import type { EndCause, VmmEvent, VmmExit } from './events.ts';
import { ExitPromise } from './exitPromise.ts';
import { failureTexts, notEnded } from './failures.ts';
import { HeldDevices } from './heldDevices.ts';
import type { DevicePlace, RemovalOptions } from './hotplug.ts';
import { type VmInfo, vmInfo } from './info.ts';
import { InfoWatchers } from './infoWatchers.ts';
import { type Command, endsMachine, type Lifecycle, nextState } from './lifecycle.ts';
import { tell } from './listener.ts';
import { type Machine, type MachineContext, startMachine } from './machine.ts';
import { pauseMachine, pressPowerButton, resumeMachine, sendNmi } from './machineCommands.ts';
import { afterMachineEnd, type EndingVm, type MachineEnd } from './machineEnd.ts';
import { type Counters, MachineFigures } from './machineFigures.ts';
import { MachineReports } from './machineReports.ts';
import { printable } from './printable.ts';
import { ResetLoop } from './resetLoop.ts';
import { type SizedVm, VmSizes } from './resize.ts';
import { resizeDiskImage, resizeMemoryZone, resizeVm } from './sizeCommands.ts';
import { VmConsoles } from './vmConsoles.ts';
import { type DevicesVm, VmDevices } from './vmDevices.ts';
import type { VmmOptions } from './vmmOptions.ts';
import { within } from './waiting.ts';

/** Microsoft's "Virtual Machine Generation ID": a GUID. */
const VM_GENERATION_BYTES = 16;

/** How long a machine's end may take: what is in flight on its disks has to come back. */
const END_TIMEOUT_MS = 10_000;
/** How much longer all that is in progress may take to notice that it is called off. */
const CALL_OFF_MS = 1_000;

export class Vmm {
  private readonly native: NativeAddon;
  private readonly options: VmmOptions;
  private readonly exit = new ExitPromise();
  private lifecycle: Lifecycle = 'none';
  private config: VmConfig | undefined;
  private readonly consoles: VmConsoles;
  private machine: Machine | undefined;
  /** While it is being started. */
  private making: MachineHandle | undefined;
  /** What devices keep open over reboots. */
  private readonly heldDevices = new HeldDevices();
  /** The command that is in progress. */
  private inProgress: Command | undefined;
  /** Counts machines: an event of an earlier one than the present means nothing any more. */
  private generation = 0;
  private hasEnded = false;
  /** Calls machines off that are still to be made. */
  private quitting = false;
  private keepsAlive = true;
  /** Tells this VM from copies of it, and from what it was before it went back in time. */
  private vmGeneration: Uint8Array | undefined;
  /** The guest was asked to power off so that it is started again. */
  private startsAnew = false;
  /** What was asked for, of this VM. */
  private consoleSize: ConsoleSize | undefined;
  private reportsMade: MachineReports | undefined;
  private resets: ResetLoop | undefined;
  private readonly figures: MachineFigures;
  /** Formats of disks that were guessed, once there is one. */
  private guessedFormats: ReturnType<MachineContext['guessedFormats']> | undefined;
  private readonly queue = new CommandQueue();
  private readonly infoWatchers = new InfoWatchers();
  private debugMade: DebugControl | undefined;
  private devicesMade: VmDevices | undefined;
  private sizesMade: VmSizes | undefined;

  constructor(options: VmmOptions) {
    this.options = options;
    this.native = options.native;
    this.consoles = new VmConsoles(options, (paths) => this.filesAnswer(paths));
    this.figures = new MachineFigures(options.native);
  }

  /** Resolves when everything of the VM is freed. */
  get exited(): Promise<VmmExit> {
    return this.exit.promise;
  }

  /** Whether `exited` has resolved, or will before an await of it returns. */
  get ended(): boolean {
    return this.exit.settled;
  }

  get state(): Lifecycle {
    return this.lifecycle === 'running' && this.debugMade?.stopped ? 'breakpoint' : this.lifecycle;
  }

  private enter(state: Lifecycle): void {
    this.lifecycle = state;
    this.infoChanged();
  }

  /**
   * Takes the configuration, which becomes the VMM's own, and opens the consoles. Their paths are in `info` after it.
   */
  create(config: VmConfig): Promise<void> {
    return this.command('create', async () => {
      validateConsoles(config);
      completeDevices(config);
      this.vmGeneration = this.native.randomBytes(VM_GENERATION_BYTES);
      await this.consoles.open(config);
      this.config = config;
      this.consoleSize = undefined;
    });
  }

  /**
   * Validates the configuration, builds the machine and starts its vCPUs.
   * @param paused the guest's first instruction waits for `resume`
   */
  boot(paused = false): Promise<void> {
    const work = async () => {
      this.emit('vm', 'booting');
      await this.startMachine({ stopped: this.config?.gdb === true, paused, replaces: false });
    };
    return paused ? this.command('bootPaused', work, 'paused') : this.command('boot', work, 'booted');
  }

  pause(): Promise<void> {
    return pauseMachine(this.commanded);
  }

  /** Also ends a stop that a debugger left behind. What one stops that is connected goes on when that says so. */
  async resume(): Promise<void> {
    await resumeMachine(this.commanded);
    for (const id of this.devicesMade?.ejected ?? []) this.deviceEjected(id, this.generation);
  }

  /** Tells the guest that the power button was pressed. What it does then is up to the guest. */
  powerButton(): Promise<void> {
    return pressPowerButton(this.commanded, () => {
      this.startsAnew = false;
    });
  }

  /** Presses the power button, and has a guest that powers off then start anew, like after `reboot`. */
  restart(): Promise<void> {
    return pressPowerButton(this.commanded, () => {
      this.startsAnew = true;
    });
  }

  /** Sends a non-maskable interrupt to every vCPU. */
  nmi(): Promise<void> {
    return sendNmi(this.commanded);
  }

  /** Tells the guest that it is a copy, or went back in time: what it thinks is unique or secret may not be. */
  renewGeneration(): Promise<void> {
    return this.command('renewGeneration', async () => {
      this.vmGeneration = this.native.randomBytes(VM_GENERATION_BYTES);
      await this.native.machineSetVmGeneration(this.running().handle, this.vmGeneration);
    });
  }

  /** Changes sizes, of vCPUs, memory and balloon. */
  resize(sizes: VmResize, client: Abortable = {}): Promise<void> {
    return resizeVm(this.commanded, sizes, client);
  }

  resizeDisk(id: string, bytes: Uint64): Promise<void> {
    return resizeDiskImage(this.commanded, id, bytes);
  }

  resizeZone(id: string, bytes: Uint64, waitMs?: number, client: Abortable = {}): Promise<void> {
    return resizeMemoryZone(this.commanded, id, bytes, waitMs, client);
  }

  /** @param descriptors that the device has; they are the VMM's from now on, also if the device is refused */
  addDevice(
    kind: DeviceName,
    device: object,
    descriptors: readonly number[] = [],
  ): Promise<DevicePlace | undefined> {
    return addVmDevice(this.commanded, kind, device, descriptors);
  }

  /** Asks the guest to give a device up, or takes it away. */
  removeDevice(id: string, options: RemovalOptions & Abortable = {}): Promise<void> {
    return removeVmDevice(this.commanded, id, options);
  }

  /** Refused for now, as the four below, after what is wrong with the request. @throws VmmError */
  snapshot(url: string): Promise<void> {
    return this.refuse('snapshot', ({ refuseSnapshot }) => refuseSnapshot(url));
  }

  coredump(url: string): Promise<void> {
    return this.refuse('coredump', ({ refuseCoredump }) => refuseCoredump(url));
  }

  restore(config: RestoreConfig): Promise<void> {
    return this.refuse('restore', ({ refuseRestore }) => refuseRestore(config));
  }

  sendMigration(data: SendMigrationData): Promise<void> {
    return this.refuse('sendMigration', ({ refuseSendMigration }) => refuseSendMigration(data));
  }

  receiveMigration(data: ReceiveMigrationData): Promise<void> {
    return this.refuse('receiveMigration', ({ refuseReceiveMigration }) => refuseReceiveMigration(data));
  }

  private refuse(command: Command, refuse: (notYet: typeof import('./notYet.ts')) => never): Promise<void> {
    return this.command(command, async () => refuse(await import('./notYet.ts')));
  }

  /** Ends the machine and starts a new one from the same configuration. */
  reboot(): Promise<void> {
    const work = () => {
      this.emit('vm', 'rebooting');
      return this.rebuild();
    };
    return this.command('reboot', work, 'rebooted');
  }

  /** Ends the machine without asking the guest; the configuration stays. */
  shutdown(): Promise<void> {
    return this.command('shutdown', () => this.stopMachine(), 'shutdown');
  }

  /** Ends the machine, if there is one, and forgets the configuration. Succeeds with nothing there, too. */
  delete(): Promise<void> {
    return this.command('delete', () => this.deleteVm());
  }

  /**
   * Calls off what is in progress, deletes the VM and ends the VMM: `exited` resolves with code 0.
   * @throws VmmError with the name of what does not come to its end in `timeoutMs`. If it is a device of the machine,
   * `exited` has resolved, and the machine's memory and files are kept until it does; the process can go on.
   */
  async quit(timeoutMs = END_TIMEOUT_MS): Promise<void> {
    this.quitting = true;
    const machine = this.making ?? this.machine?.handle;
    if (machine !== undefined) this.native.machineCallOff(machine);
    const end = this.enqueueEnd(async () => {
      const failure = await this.end({ reason: 'request', code: 0 }, timeoutMs);
      if (failure) throw failure;
    });
    await within(end, { timeoutMs: timeoutMs + CALL_OFF_MS }, () => notEnded(this.inProgress));
  }

  /** For a process that must end at once: puts the terminal back and removes sockets, and nothing else. */
  abandon(): void {
    this.consoles.close();
    this.heldDevices.removeSockets();
  }

  /** Whether a machine keeps the process alive, as it does at first. */
  keepAlive(alive: boolean): void {
    this.keepsAlive = alive;
    if (this.machine) this.native.machineKeepAlive(this.machine.handle, alive);
  }

  /** Does not wait for commands in progress. @throws VmmError `missing` without a configuration */
  info(): VmInfo {
    this.permit('info');
    const config = this.config as VmConfig;
    const machine = this.machine;
    const view = machine && {
      placements: machine.bus.placements,
      memory: machine.memory.size,
      memoryChange: this.figures.memoryChange(config, machine.handle),
      pendingRemovals: this.devicesMade?.pending ?? [],
      pendingVcpus: this.sizesMade?.pendingVcpus,
    };
    return vmInfo(config, this.state, view);
  }

  /** Has machines to come be debugged, if their configuration says so. */
  set debugger(hooks: DebuggerHooks) {
    this.debug.debugger = hooks;
  }

  /**
   * Takes all vCPUs out of the guest, until `debugResume`.
   * @throws VmmError if there is no machine, or it does not stop
   */
  debugStop(): Promise<void> {
    return this.queue.add(() => this.debug.stop());
  }

  /** @param orders for each vCPU; by default all run */
  debugResume(traps: DebugTraps, orders?: DebugOrders): Promise<void> {
    return this.queue.add(() => this.debug.resume(traps, orders));
  }

  /** Has `use` look at the machine in its turn. @throws what that throws; VmmError if there is no machine */
  debugAccess<T>(use: (machine: StoppedMachine) => Promise<T>): Promise<T> {
    return this.queue.add(async () => use(this.debug.machine));
  }

  /**
   * Calls `changed` whenever `info` may have another answer than before, but for the size of the balloon, or `counters`
   * comes from elsewhere.
   * @returns what ends that
   */
  watchInfo(changed: () => void): () => void {
    return this.infoWatchers.add(changed);
  }

  private infoChanged(): void {
    this.infoWatchers.changed();
  }

  /**
   * Does not wait: while a command is in progress, what they were before it.
   * @throws VmmError if there is no machine
   */
  counters(): Counters {
    return this.figures.counters(() => this.asked());
  }

  /** Bytes that the machine has, without those that its devices give the guest, or take. */
  get machineMemory(): number | undefined {
    return this.machine?.memory.size;
  }

  /** The machine that `counters`, and `info` of its balloon, ask; undefined while it does not answer. */
  get countedMachine(): MachineHandle | undefined {
    return this.figures.areHeld ? undefined : this.machine?.handle;
  }

  /** By index. As `counters`. @throws VmmError if there is no machine */
  vcpuStatistics(): readonly VcpuStatistics[] {
    return this.figures.vcpus(() => this.asked());
  }

  private asked(): MachineHandle {
    this.permit('counters');
    return this.running().handle;
  }

  /**
   * Tells the virtio console its size, which machines to come start with; without one, that of the terminal if the
   * console is in mode `Tty`. In its turn: the machine may be busy, and people drag windows at any time.
   */
  resizeConsole(size?: ConsoleSize): Promise<void> {
    return this.queue.add(async () => {
      if (size) this.consoleSize = size;
      const isTerminal = this.config?.console.mode === 'Tty';
      const now = size ?? (isTerminal ? this.native.terminalSize(this.consoles.terminal.output) : null);
      if (now && this.machine) await this.devices.operate('console', 'resize', [now.columns, now.rows]);
    });
  }

  /**
   * Runs `work` in its turn if the state permits, and wraps what goes wrong in the command's own words. Listeners get
   * `done` when the state is the new one.
   */
  private command<T>(command: Command, work: () => Promise<T>, done?: string): Promise<T> {
    const carryOut = async () => {
      try {
        if (this.hasEnded) {
          throw new VmmError('The VMM has come to its end', { code: 'ERR_TSVMM_STATE' });
        }
        const to = nextState(command, this.state);
        this.inProgress = command;
        this.callOffResize();
        const result = await work();
        this.enter(to);
        if (done !== undefined) this.emit('vm', done);
        return result;
      } catch (error) {
        this.infoChanged();
        throw new VmmError(failureTexts[command], { cause: error });
      } finally {
        this.inProgress = undefined;
      }
    };
    return endsMachine(command) ? this.enqueueEnd(carryOut) : this.queue.add(carryOut);
  }

  private enqueueEnd<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.queue.addEnd(work);
    this.callOffResize();
    return turn;
  }

  private permit(command: Command): void {
    try {
      nextState(command, this.state);
    } catch (error) {
      throw new VmmError(failureTexts[command], { cause: error });
    }
  }

  private running(): Machine {
    if (this.machine === undefined) throw new VmmError('VM is not running', { code: 'ERR_TSVMM_STATE' });
    return this.machine;
  }

  /** Runs what keeps the machine from answering; its counters stand still meanwhile. */
  private async busy<T>(work: (machine: Machine) => Promise<T>): Promise<T> {
    const machine = this.running();
    this.figures.hold(machine.handle);
    this.infoChanged();
    // Before the machine ceases to answer: the answers that are kept ask it.
    this.infoWatchers.tell();
    try {
      return await work(machine);
    } finally {
      this.figures.release();
      // A command changes the state as well: both are told of together.
      if (this.inProgress === undefined) this.infoChanged();
    }
  }

  private async startMachine(how: Pick<MachineContext, 'paused' | 'stopped' | 'replaces'>): Promise<void> {
    const config = this.config as VmConfig;
    refuseInvalid(() => {
      validateVmConfig(config);
      checkBootable(config);
      if (config.gdb && !this.debugMade?.hasDebugger) {
        throw new VmmError('gdb needs a VMM that was started with --gdb path=SOCKET', { kind: 'invalid' });
      }
    });
    await this.consoles.open(config);
    this.infoChanged();
    this.generation++;
    try {
      this.machine = await startMachine(this.machineContext(config, how));
    } catch (error) {
      this.heldDevices.close(this.native);
      throw error;
    } finally {
      this.making = undefined;
    }
    if (!this.keepsAlive) this.native.machineKeepAlive(this.machine.handle, false);
    if (how.stopped) this.debug.machineStarted();
    for (const { device, index, id } of this.machine.bus.placements) keepId(config, device, index, id);
  }

  private machineContext(
    config: VmConfig,
    how: Pick<MachineContext, 'paused' | 'stopped' | 'replaces'>,
  ): MachineContext {
    const generation = this.generation;
    return {
      native: this.native,
      config,
      consoles: this.consoles.opened as Consoles,
      outputs: this.options.outputs ?? [],
      terminal: this.consoles.terminal,
      vmGeneration: this.vmGeneration as Uint8Array,
      ...(this.consoleSize && { consoleSize: this.consoleSize }),
      ...how,
      onEvent: (event) => this.machineEvent(event, generation),
      onMaking: (handle) => {
        this.making = handle;
        if (this.quitting) this.native.machineCallOff(handle);
      },
      guessedFormats: () => (this.guessedFormats ??= new WeakMap()),
      ...(this.devicesMade && { keptSlots: this.devicesMade.keptSlots }),
      heldDevices: this.heldDevices,
      filesAnswer: (paths) => this.filesAnswer(paths),
      warn: (message) => this.warn(message),
      note: (message) => tell(this.options.onNote, printable(message)),
    };
  }

  /** Nobody waits any more for a store that seems to hang, once the machine is to end. */
  private filesAnswer(paths: readonly string[]): Promise<void> {
    return checkFilesAnswer(this.native, paths, { isCalledOff: () => this.queue.endWaits });
  }

  private async stopMachine(timeoutMs = END_TIMEOUT_MS): Promise<void> {
    try {
      await this.destroyMachine(timeoutMs);
    } finally {
      this.heldDevices.close(this.native);
      this.consoles.end();
      this.debugMade?.ended();
    }
  }

  /** Leaves the vsock's clients, and the disks, to the next machine. */
  private async destroyMachine(timeoutMs = END_TIMEOUT_MS): Promise<void> {
    const machine = this.machine;
    this.machine = undefined;
    this.debugMade?.machineGone();
    this.figures.machineGone();
    this.startsAnew = false;
    if (machine) this.enter('created');
    this.generation++;
    this.consoles.drain();
    try {
      if (machine) await this.native.machineDestroy(machine.handle, timeoutMs);
    } catch (error) {
      // What is left of it may still write to them, and keeps their locks: no other machine may have them.
      this.heldDevices.close(this.native);
      throw error;
    } finally {
      this.devicesMade?.machineEnded();
      this.sizesMade?.machineEnded();
      this.consoles.close();
    }
  }

  private async deleteVm(timeoutMs?: number): Promise<void> {
    const existed = this.config !== undefined;
    const ran = this.machine !== undefined;
    try {
      await this.stopMachine(timeoutMs);
    } finally {
      // Also if something is left of the machine: it cannot be reached any more.
      if (ran) this.emit('vm', 'shutdown');
      this.config = undefined;
      this.consoles.forget();
      this.devicesMade?.close();
      this.enter('none');
      if (existed) this.emit('vm', 'deleted');
    }
  }

  private rebuild(): Promise<void> {
    return this.busy(async () => {
      await this.destroyMachine();
      const stopped = this.config?.gdb === true && this.debug.attached;
      await this.startMachine({ stopped, paused: false, replaces: true });
    });
  }

  /** Comes from the core, at any time and also for a machine that is gone by now. */
  private machineEvent(event: MachineEvent, generation: number): void {
    if (generation !== this.generation) return;
    switch (event.type) {
      case 'terminal-escape':
        this.warnOfFailure(this.quit());
        return;
      case 'device-ejected':
        this.deviceEjected(event.id, generation);
        return;
      case 'vcpu-started':
        this.sizes.vcpuStarted(event.vcpu);
        return;
      case 'vcpu-ejected':
        this.sizes.vcpuEjected(event.vcpu);
        return;
      case 'debug-stop':
        this.debug.met(event);
        return;
      case 'power-off':
      case 'reset':
      case 'vcpu-error':
        this.machineEnds(event, generation);
        return;
      case 'guest-panic':
        this.reports.pass(event);
        if (event.event !== 'panic' || !this.endsOn('panic')) return;
        this.machineEnds(event, generation);
        return;
      default:
        this.reports.pass(event);
    }
  }

  private deviceEjected(id: string, generation: number): void {
    this.follow(generation, () => this.devices.eject(id, this.lifecycle === 'paused'));
  }

  private endsOn(cause: EndCause): boolean {
    return this.options.endOn?.includes(cause) === true;
  }

  /** Does in its turn what follows from an event of that machine, if it is still there. */
  private follow(generation: number, work: () => Promise<void>): void {
    this.warnOfFailure(this.queue.add(() => this.unlessGone(generation, work)));
  }

  private async unlessGone(generation: number, work: () => Promise<void>): Promise<void> {
    if (generation === this.generation) await work();
  }

  /** For work that no caller waits for. */
  private warnOfFailure(work: Promise<void>): void {
    work.catch((error) => this.warn(describeError(error)));
  }

  private machineEnds(event: MachineEnd, generation: number): void {
    const follow = () => this.unlessGone(generation, () => afterMachineEnd(this.ending, event));
    this.warnOfFailure(this.enqueueEnd(follow));
  }

  /**
   * Nobody waits for much memory to come, all of its pages (`prefault`), to a machine that is about to end: neither if
   * it comes already, nor if its turn comes before the end.
   */
  private callOffResize(): void {
    const isVain = this.queue.hasEnd && this.inProgress === 'resize';
    if (isVain && this.machine) this.native.machineCallOff(this.machine.handle);
  }

  // Made when they are first asked for, as a start needs none of them.

  private get debug(): DebugControl {
    this.debugMade ??= new DebugControl({
      native: this.native,
      machine: () => this.running(),
      vcpus: () => this.config?.cpus.boot_vcpus ?? 0,
      busy: (work) => this.busy(work),
      changed: () => this.infoChanged(),
    });
    return this.debugMade;
  }

  private get reports(): MachineReports {
    this.reportsMade ??= new MachineReports({
      config: () => this.config,
      emit: (source, event, texts) => this.emit(source, event, texts),
      warn: (message) => this.warn(message),
    });
    return this.reportsMade;
  }

  private get devices(): VmDevices {
    this.devicesMade ??= new VmDevices(this.changing);
    return this.devicesMade;
  }

  private get sizes(): VmSizes {
    this.sizesMade ??= new VmSizes(this.changing);
    return this.sizesMade;
  }

  /** For what changes devices and sizes. */
  private get changing(): DevicesVm & SizedVm {
    return {
      native: this.native,
      heldDevices: this.heldDevices,
      machine: () => this.machine,
      running: () => this.running(),
      config: () => this.config as VmConfig,
      configure: (config) => {
        this.config = config;
        this.infoChanged();
      },
      changed: () => this.infoChanged(),
      context: (config) => this.machineContext(config, { paused: false, stopped: false, replaces: false }),
      busy: (work) => this.busy(work),
      emit: (event, texts) => {
        this.infoChanged();
        this.emit('vm', event, texts);
      },
      // While a machine is made anew there is none.
      status: () => (this.figures.areHeld ? undefined : this.figures.status(this.running().handle)),
      resizeBalloon: (bytes) => this.devices.operate('balloon', 'resize', [bytes]),
    };
  }

  /** For commands that no start needs. */
  private get commanded(): CommandedVm {
    return {
      native: this.native,
      debug: this.debug,
      devices: this.devices,
      sizes: this.sizes,
      state: () => this.state,
      command: (command, work, done) => this.command(command, work, done),
      running: () => this.running(),
      busy: (work) => this.busy(work),
      emit: (event) => this.emit('vm', event),
    };
  }

  /** As it is when its machine's run has ended. */
  private get ending(): EndingVm {
    return {
      machine: this.machine,
      startsAnew: this.startsAnew,
      staysOnPowerOff: this.options.stayOnPowerOff === true,
      endsOn: (cause) => this.endsOn(cause),
      countReset: (cause) => {
        this.resets ??= new ResetLoop();
        return this.resets.count(cause, performance.now());
      },
      emit: (source, event, texts) => this.emit(source, event, texts),
      warn: (message) => this.warn(message),
      rebuild: async () => {
        await this.rebuild();
        this.enter('running');
      },
      stop: () => this.stopMachine(),
      end: (exit) => this.end(exit),
    };
  }

  /** @returns why something of the machine is left, if so */
  private async end(exit: VmmExit, timeoutMs?: number): Promise<VmmError | undefined> {
    if (this.hasEnded) return undefined;
    this.hasEnded = true;
    let failure: VmmError | undefined;
    try {
      await this.deleteVm(timeoutMs);
    } catch (error) {
      failure = new VmmError('The VM could not be ended in order', { cause: error });
    }
    this.enter('none');
    const reasons = [exit.message, failure && describeError(failure)].filter((text) => text !== undefined);
    const ended = failure
      ? ({ ...exit, code: 1, message: reasons.join('. '), incomplete: true } as const)
      : exit;
    this.emit('vmm', 'shutdown');
    this.exit.settle(ended);
    return failure;
  }

  /** What properties say may come from the guest. */
  private emit(source: VmmEvent['source'], event: string, texts?: Record<string, string>): void {
    // A client that gets the event may ask at once, and has an answer that is kept.
    this.infoWatchers.tell();
    const properties =
      texts && Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, printable(text)]));
    tell(this.options.onEvent, { source, event, ...(properties && { properties }) });
  }

  private warn(message: string): void {
    tell(this.options.onWarning, printable(message));
  }
}
