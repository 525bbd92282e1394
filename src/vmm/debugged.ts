/** The interface between a VMM and the debugger of its VM, which is loaded only where one is asked for. */
import type { DebugCalls, DebugStop, MachineHandle } from '../native.ts';

/** A debugger, as the VMM sees it. */
export interface DebuggerHooks {
  /** A debugger is connected: the guest goes on when that says so. */
  readonly attached: boolean;
  /** The guest is about to go on without a debugger: removes everything of one from it. */
  leave(machine: StoppedMachine): Promise<void>;
  /** A vCPU met what the debugger asked for. The guest is about to stop. */
  stopped(stop: DebugStop): void;
  /** A new machine begins, and is stopped. */
  started(): void;
  /** The machine is gone, and no other takes its place. */
  ended(): void;
}

/** What each vCPU does when the guest goes on, and what stops it again. */
export type DebugOrders = Parameters<DebugCalls['machineDebugResume']>[1];
export type DebugTraps = Parameters<DebugCalls['machineDebugResume']>[2];

/** A machine that is stopped for its debugger. */
export interface StoppedMachine {
  readonly native: DebugCalls;
  readonly handle: MachineHandle;
}
