/**
 * The configuration that each running domain has: its definition, or other clients, may have changed since its start.
 */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import type { EventHistory, SupervisorEvent } from '../../supervisor/eventHistory.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { currentMemoryKib } from './figures.ts';

/** Devices come and go by other clients' doing as well, and by the guest's. */
const DEVICE_EVENTS: readonly string[] = ['device-added', 'device-removed'];

/** Of those that run when their supervisor starts. */
const ASKED_AT_ONCE = 8;

interface Known {
  readonly runId: number;
  /** The how-manieth question this answers. */
  readonly question: number;
  readonly config: VmConfigInput;
}

export interface LiveConfigsContext {
  readonly events: EventHistory;
  find(name: string): SupervisedVm | undefined;
  /** What the VM's process says. */
  ask(vm: SupervisedVm): Promise<VmConfigInput>;
  /** Its memory was changed, by whomever: KiB that are the guest's now. */
  resized(vm: SupervisedVm, memory: bigint): void;
}

export class LiveConfigs {
  readonly #context: LiveConfigsContext;
  /** What a process has told, where that is more than what it was started with. */
  readonly #known = new Map<string, Known>();
  /** The memory that was told last, of those where that is another than at the start. */
  readonly #told = new Map<string, { readonly runId: number; readonly memory: bigint }>();
  #questions = 0;

  constructor(context: LiveConfigsContext) {
    this.#context = context;
    context.events.watch((event) => this.#hear(event));
  }

  /** Undefined where nothing runs, or what runs was started by another supervisor and has not told yet. */
  of(vm: SupervisedVm): VmConfigInput | undefined {
    const known = this.#known.get(vm.definition.name);
    return known && known.runId === vm.runId ? known.config : vm.startedWith;
  }

  /** Asks the VM. Rejects if it does not answer. */
  async refresh(vm: SupervisedVm): Promise<VmConfigInput> {
    const { runId } = vm;
    const question = ++this.#questions;
    const config = await this.#context.ask(vm);
    if (runId !== undefined) this.#learn(vm.definition.name, { runId, question, config });
    return config;
  }

  /** Asks those that run already: what their definitions say may be another machine. */
  async refreshAll(vms: readonly SupervisedVm[]): Promise<void> {
    const left = vms.filter((vm) => vm.alive);
    const lane = async () => {
      // One that does not answer is asked again when it is adopted, or its document is asked for.
      for (let vm = left.shift(); vm !== undefined; vm = left.shift()) await this.refresh(vm).catch(() => {});
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, lane));
  }

  /** Each question has a connection of its own: an earlier one may be answered later, and is of the past then. */
  #learn(name: string, known: Known): void {
    const latest = this.#known.get(name)?.question ?? 0;
    if (known.question > latest) this.#known.set(name, known);
  }

  #hear({ vm: name, source, event }: SupervisorEvent): void {
    if (source === 'supervisor' && (event === 'stopped' || event === 'removed')) {
      this.#known.delete(name);
      this.#told.delete(name);
    }
    const resized = source === 'vm' && event === 'resized';
    const changed = resized || (source === 'vm' && DEVICE_EVENTS.includes(event));
    const vm = this.#context.find(name);
    if (!vm || !(changed || (source === 'supervisor' && event === 'adopted'))) return;
    this.refresh(vm).then(
      (config) => resized && this.#tellMemory(vm, currentMemoryKib(config)),
      // It is asked again when its document is.
      () => {},
    );
  }

  /** What was changed may be the number of vCPUs. */
  #tellMemory(vm: SupervisedVm, memory: bigint): void {
    const { runId } = vm;
    const { name, config } = vm.definition;
    const told = this.#told.get(name);
    const before = told && told.runId === runId ? told.memory : currentMemoryKib(vm.startedWith ?? config);
    if (runId === undefined || memory === before) return;
    this.#told.set(name, { runId, memory });
    this.#context.resized(vm, memory);
  }
}
