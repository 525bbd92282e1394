/** All VMs of one folder: definitions, processes, and one stream of events. */
import { vmsFolder } from '../api/vmhost/folderFiles.ts';
import { describeError, VmmError } from '../vmm/errors.ts';
import { Children, type ChildrenOptions } from './children.ts';
import { ControlGroups } from './controlGroups.ts';
import { checkMachine, isName, readDefinition } from './definition.ts';
import { type Companions, DefinitionStore, type StoredDefinition } from './definitionStore.ts';
import { EventHistory } from './eventHistory.ts';
import { processesBelow } from './foundChild.ts';
import { OncePerHostRun } from './hostRun.ts';
import { rotateLogs } from './logRotation.ts';
import type { ProcessIdentity } from './processIdentity.ts';
import { RunIds } from './runIds.ts';
import { SupervisedVm, type SupervisedVmContext } from './supervisedVm.ts';
import type { VmDescription } from './vmState.ts';

export type SupervisorOptions = ChildrenOptions;

const ROTATE_MS = 60_000;
/** How long a scan of the folder is used again for lists of all VMs. */
const RESCAN_MS = 1_000;
/** Starts at once, when the supervisor starts. */
const STARTS_AT_ONCE = 4;
/** In the supervisor's folder: VMs with `autostart` have been started since the host's start. */
const AUTOSTARTED = 'autostarted';

export class Supervisor {
  readonly events = new EventHistory();
  readonly #options: SupervisorOptions;
  readonly #store: DefinitionStore;
  readonly #children: Children;
  readonly #groups = new ControlGroups();
  readonly #vms = new Map<string, SupervisedVm>();
  /** Of the definitions as they were read, by name. */
  readonly #versions = new Map<string, string | undefined>();
  #scannedAt = 0;
  readonly #runIds: RunIds;
  readonly #autostart: OncePerHostRun;
  #isStopping = false;
  #rotation: ReturnType<typeof setInterval> | undefined;

  /** The folder's lock is the caller's. @throws Error if the folder cannot be used */
  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#store = new DefinitionStore(options.places.root);
    this.#children = new Children(options);
    this.#autostart = new OncePerHostRun(`${options.places.root}/${AUTOSTARTED}`);
    this.#runIds = new RunIds({
      root: options.places.root,
      folders: () => this.#store.names().map((name) => this.#store.folderOf(name)),
      warn: options.warn,
    });
  }

  /**
   * Finds what runs already, and starts what is to run. Returns when everything is known, before the starts.
   * @throws Error
   */
  async open(): Promise<void> {
    for (const name of this.#store.misnamed()) {
      this.#options.warn(`The folder ${this.#store.folderOf(name)} is left alone: no VM can be called so`);
    }
    for (const name of this.#store.names()) {
      const { problem } = this.#read(name);
      if (problem) this.#options.warn(`The definition of the VM ${name} is broken: ${problem.reason}`);
    }
    const processes = processesBelow(vmsFolder(this.#options.places.root));
    await Promise.all([...this.#vms.values()].map((vm) => vm.adopt(processes.get(vm.folder))));
    // Those that ended while no supervisor ran, and those whose start has lost its client.
    for (const vm of this.#vms.values()) this.#removeTransient(vm);
    await this.#children.listen();
    this.#rotation = setInterval(() => this.#rotate(), ROTATE_MS);
    void this.#startWanted();
  }

  /** Tells people, in one sentence. */
  warn(message: string): void {
    this.#options.warn(message);
  }

  /** Lets go of everything: VMs live on. */
  close(): void {
    clearInterval(this.#rotation);
    for (const vm of this.#vms.values()) vm.detach();
    this.#children.close();
    this.#runIds.close();
  }

  /** Ends every VM in order: the next supervisor starts those with `autostart` again. Rejections are warned of. */
  async stopAll(): Promise<void> {
    this.#isStopping = true;
    this.#autostart.isDone = false;
    const alive = [...this.#vms.values()].filter((vm) => vm.alive);
    await Promise.all(
      alive.map((vm) => {
        const { name, policy } = vm.definition;
        const seconds = policy.stop_timeout;
        if (!vm.policy)
          this.#options.warn(`The VM ${name} has ${seconds} s to stop: its definition is broken`);
        return vm.stop(seconds).catch((error: Error) => this.#options.warn(error.message));
      }),
    );
  }

  /** By name, as they were not longer ago than a second. */
  get vms(): ReadonlyMap<string, SupervisedVm> {
    if (performance.now() - this.#scannedAt > RESCAN_MS) this.#rescan();
    return this.#vms;
  }

  list(): VmDescription[] {
    this.#rescan();
    return [...this.#vms.values()].map((vm) => vm.describe()).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws VmmError `missing` */
  get(name: string): SupervisedVm {
    if (isName(name)) this.#reload(name);
    const vm = this.#vms.get(name);
    if (vm === undefined) throw new VmmError(`There is no VM ${JSON.stringify(name)}`, { kind: 'missing' });
    return vm;
  }

  folderOf(name: string): string {
    return this.#store.folderOf(name);
  }

  /** On the disk when it returns, with its companions. @throws ConfigError, VmmError `conflict` */
  define(value: unknown, companions?: Companions): VmDescription {
    const definition = readDefinition(value);
    if (this.#vms.has(definition.name)) {
      throw new VmmError(`There is a VM ${definition.name} already`, { kind: 'conflict' });
    }
    checkMachine(definition);
    this.#store.add(definition, companions);
    const vm = this.#add({ definition });
    this.#tell(vm, 'defined', definition.policy.transient || undefined);
    return vm.describe();
  }

  /** Takes effect when the VM starts the next time. @throws ConfigError, VmmError */
  redefine(name: string, value: unknown): VmDescription {
    const vm = this.get(name);
    const definition = readDefinition({ ...(value as object), name }, vm.definition.policy.uuid);
    checkMachine(definition);
    this.#store.replace(definition);
    this.#redefined(vm, { definition });
    return vm.describe();
  }

  /**
   * Removes the VM's folder, and all that is in it.
   * @param force ends it first
   * @throws VmmError also if it is gone and something of the folder is left
   */
  async remove(name: string, force: boolean): Promise<void> {
    const vm = this.get(name);
    if (vm.alive && !force) {
      throw new VmmError(`The VM ${name} is ${vm.state}: stop it first`, { kind: 'conflict' });
    }
    await vm.stop(0, true);
    if (this.#vms.get(name) !== vm) return;
    // Another caller that waited for the stop may have started it again.
    if (vm.goesOn) throw new VmmError(`The VM ${name} was started meanwhile`, { kind: 'conflict' });
    const left = this.#store.remove(name);
    this.#forget(vm);
    if (left !== undefined) throw new VmmError(left);
  }

  #forget(vm: SupervisedVm): void {
    const { name, policy } = vm.definition;
    this.#vms.delete(name);
    this.#versions.delete(name);
    this.#groups.remove(name);
    this.#tell(vm, 'removed', policy.transient || undefined);
  }

  /** @param transient told where it is true, or has changed */
  #tell({ definition: { name } }: SupervisedVm, event: string, transient: boolean | undefined): void {
    const properties = transient === undefined ? undefined : { transient: String(transient) };
    this.events.add(name, { source: 'supervisor', event, ...(properties && { properties }) });
  }

  #redefined(vm: SupervisedVm, stored: StoredDefinition): void {
    const before = vm.definition.policy.transient;
    vm.redefine(stored);
    const { name, policy } = vm.definition;
    this.#versions.set(name, this.#store.version(name));
    this.#tell(vm, 'redefined', policy.transient === before ? undefined : policy.transient);
  }

  /** Removes one that has stopped for good, after listeners and waiting callers have been told of the stop. */
  #removeTransient(vm: SupervisedVm): void {
    const { name } = vm.definition;
    const isOver = () =>
      this.#vms.get(name) === vm && vm.definition.policy.transient && !vm.goesOn && !this.isWanted(vm);
    if (!isOver()) return;
    setImmediate(() => {
      if (!isOver()) return;
      this.remove(name, false).catch((error: Error) => this.#options.warn(describeError(error)));
    });
  }

  /** Finds what people changed in the folder. What runs stays, whatever became of its definition. */
  #rescan(): void {
    this.#scannedAt = performance.now();
    let names: Set<string>;
    try {
      names = new Set(this.#store.names());
    } catch {
      // The folder is out of reach for now: that is no reason to forget what was in it.
      return;
    }
    for (const name of names) this.#reload(name);
    for (const [name, vm] of this.#vms) if (!names.has(name) && !vm.goesOn) this.#forget(vm);
  }

  /** Reads a definition that is new or has changed. */
  #reload(name: string): void {
    const known = this.#vms.get(name);
    const version = this.#store.version(name);
    if (version === undefined || version === this.#versions.get(name)) return;
    const stored = this.#store.read(name);
    if (known !== undefined) this.#redefined(known, stored);
    else this.#tell(this.#add(stored), 'defined', stored.definition.policy.transient || undefined);
  }

  /** Adds what a folder has. */
  #read(name: string): StoredDefinition {
    const stored = this.#store.read(name);
    this.#add(stored);
    return stored;
  }

  #add(stored: StoredDefinition): SupervisedVm {
    const { name } = stored.definition;
    this.#versions.set(name, this.#store.version(name));
    const context = {
      folder: this.#store.folderOf(name),
      runId: (process: ProcessIdentity) => this.#runIds.of(this.#store.folderOf(name), process),
      startChild: (paused: boolean) => {
        // Also of one that never lives long enough for the timer.
        rotateLogs(this.#store.folderOf(name));
        const { end_on } = vm.definition.policy;
        return this.#children.start(name, { paused, end_on });
      },
      limit: (pid: number) => this.#groups.apply(name, pid, vm.definition.policy.limits),
      wanted: () => this.#store.wanted(name),
      setWanted: (wanted: boolean) => this.#store.setWanted(name, wanted),
      reload: () => this.#reload(name),
      report: (event: Parameters<EventHistory['add']>[1]) => {
        this.events.add(name, event);
        this.#removeTransient(vm);
      },
    } satisfies SupervisedVmContext;
    const vm: SupervisedVm = new SupervisedVm(stored, context);
    this.#vms.set(name, vm);
    return vm;
  }

  /** Those that start with the supervisor, and those that ran when it ended and are to be started again. */
  async #startWanted(): Promise<void> {
    const wanted = [...this.#vms.values()].filter((vm) => !vm.alive && this.isWanted(vm));
    const next = async (): Promise<void> => {
      for (let vm = wanted.shift(); vm !== undefined; vm = wanted.shift()) {
        // Told as an event, and tried again if its policy says so.
        await vm.start().catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: STARTS_AT_ONCE }, next));
    if (!this.#isStopping) this.#autostart.isDone = true;
  }

  /**
   * Whether one that does not run is started with the supervisor. What was stopped since the host's start
   * does not begin again because the supervisor was renewed.
   */
  isWanted({ definition: { name, policy } }: SupervisedVm): boolean {
    const autostarts = policy.autostart && !this.#autostart.isDone;
    return autostarts || (policy.restart.when !== 'Never' && this.#store.wanted(name));
  }

  #rotate(): void {
    for (const [name, vm] of this.#vms) if (vm.alive) rotateLogs(this.#store.folderOf(name));
  }
}
