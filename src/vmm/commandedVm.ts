/** A VM as it is seen by its commands that no start needs: those of `machineCommands.ts` and the like. */
import type { NativeAddon } from '../native.ts';
import type { DebugControl } from './debugControl.ts';
import type { Command, Lifecycle } from './lifecycle.ts';
import type { Machine } from './machine.ts';
import type { VmSizes } from './resize.ts';
import type { VmDevices } from './vmDevices.ts';

export interface CommandedVm {
  readonly native: NativeAddon;
  readonly state: () => Lifecycle;
  readonly debug: DebugControl;
  readonly devices: VmDevices;
  readonly sizes: VmSizes;
  /**
   * Runs `work` in its turn if the state permits, and wraps what goes wrong in the command's own words. Listeners get
   * the event `done` when the state is the new one.
   */
  readonly command: <T>(command: Command, work: () => Promise<T>, done?: string) => Promise<T>;
  /** @throws VmmError if there is no machine */
  readonly running: () => Machine;
  /** Runs what keeps the machine from answering. */
  readonly busy: (work: (machine: Machine) => Promise<void>) => Promise<void>;
  readonly emit: (event: string) => void;
}
