/** Stops, inspects and resumes the machine for a debugger, in turn with the VMM's commands. */
import type { DebugStop, NativeAddon } from '../native.ts';
import type { DebuggerHooks, DebugOrders, DebugTraps, StoppedMachine } from './debugged.ts';
import { tell } from './listener.ts';
import type { Machine } from './machine.ts';

/** The VM that is debugged. */
export interface DebuggedVm {
  readonly native: NativeAddon;
  /** @throws VmmError if there is none */
  readonly machine: () => Machine;
  readonly vcpus: () => number;
  /** Runs what keeps the machine from answering. */
  readonly busy: (work: (machine: Machine) => Promise<void>) => Promise<void>;
  /** Called when the machine is stopped, and when it is not any more. */
  readonly changed: () => void;
}

export class DebugControl {
  private readonly vm: DebuggedVm;
  private hooks: DebuggerHooks | undefined;
  private isStopped = false;

  constructor(vm: DebuggedVm) {
    this.vm = vm;
  }

  set debugger(hooks: DebuggerHooks) {
    this.hooks = hooks;
  }

  get hasDebugger(): boolean {
    return this.hooks !== undefined;
  }

  /** A debugger is connected. */
  get attached(): boolean {
    return this.hooks?.attached === true;
  }

  /** The machine would run if a debugger had not stopped it. */
  get stopped(): boolean {
    return this.isStopped;
  }

  /** Takes all vCPUs out of the guest, until `resume`. @throws VmmError if there is no machine, or it does not stop */
  async stop(): Promise<void> {
    let stopped = false;
    try {
      await this.vm.busy(({ handle }) => this.vm.native.machineDebugStop(handle));
      stopped = true;
    } finally {
      // A machine that does not stop goes on, also where a vCPU had met a breakpoint.
      this.set(stopped);
    }
  }

  /** @param orders for each vCPU; by default all run */
  async resume(traps: DebugTraps, orders: DebugOrders = this.everyVcpu('run')): Promise<void> {
    await this.vm.native.machineDebugResume(this.vm.machine().handle, orders, traps);
    this.set(orders.every((order) => order === 'hold'));
  }

  /** The machine as it is looked at. @throws VmmError if there is none */
  get machine(): StoppedMachine {
    return { native: this.vm.native, handle: this.vm.machine().handle };
  }

  /** Lets a machine go on that a debugger left stopped. */
  async leave(): Promise<void> {
    await this.hooks?.leave(this.machine);
    await this.resume({ hardware: [], software: [] });
  }

  /** A vCPU met what the debugger asked for. */
  met(stop: DebugStop): void {
    this.set(true);
    tell(() => this.hooks?.stopped(stop));
  }

  /** A new machine is stopped from its first instruction on. */
  machineStarted(): void {
    this.isStopped = true;
    tell(() => this.hooks?.started());
  }

  /** The machine is gone, and perhaps another one takes its place. */
  machineGone(): void {
    this.isStopped = false;
  }

  /** No other machine takes the place of the last one. */
  ended(): void {
    tell(() => this.hooks?.ended());
  }

  private everyVcpu(order: DebugOrders[number]): DebugOrders {
    return Array(this.vm.vcpus()).fill(order);
  }

  private set(stopped: boolean): void {
    this.isStopped = stopped;
    this.vm.changed();
  }
}
