/**
 * Counters and status of a machine. While a command keeps it from answering, they are those from before the command.
 */
import { memoryVaries } from '../config/memory.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { MachineHandle, NativeAddon, TakenFigures, VcpuStatistics } from '../native.ts';

/** By device and name. */
export type Counters = Record<string, Record<string, bigint>>;
/** What is so at a moment, by device and name. */
export type DeviceStatus = Readonly<Record<string, Readonly<Record<string, number>>>>;

export class MachineFigures {
  private readonly native: NativeAddon;
  private held: TakenFigures | undefined;
  private knownMemoryChange = 0;

  constructor(native: NativeAddon) {
    this.native = native;
  }

  /** The machine does not answer from now on, until `release`. */
  hold(machine: MachineHandle): void {
    this.held = this.native.machineFigures(machine);
  }

  release(): void {
    this.held = undefined;
  }

  get areHeld(): boolean {
    return this.held !== undefined;
  }

  /** @param machine is asked unless figures are held */
  counters(machine: () => MachineHandle): Counters {
    return this.held?.counters ?? this.native.machineCounters(machine());
  }

  /** By index. As `counters`. */
  vcpus(machine: () => MachineHandle): readonly VcpuStatistics[] {
    return this.held?.vcpus ?? this.native.machineVcpuStatistics(machine());
  }

  /**
   * Bytes that devices have given the guest of a machine made of that configuration since its boot, and not taken; the
   * last that is known while it does not answer.
   */
  memoryChange(config: VmConfig, machine: MachineHandle): number {
    if (!memoryVaries(config)) return 0;
    const status = this.status(machine);
    if (status === undefined) return this.knownMemoryChange;
    let change = 0;
    for (const { plugged = 0, ballooned = 0 } of Object.values(status)) change += plugged - ballooned;
    this.knownMemoryChange = change;
    return change;
  }

  /** Undefined while it does not answer. */
  status(machine: MachineHandle): DeviceStatus | undefined {
    try {
      return this.native.machineStatus(machine);
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'EBUSY' && code !== 'ERR_TSVMM_NO_MACHINE') throw error;
      return undefined;
    }
  }

  /** The next machine begins with what it has at boot. */
  machineGone(): void {
    this.knownMemoryChange = 0;
  }
}
