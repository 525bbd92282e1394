/** What a machine counts and tells of itself. While a command is changing it, it does not answer: that is what was so before then. */
import type { VmConfig } from '../config/vmConfig.ts';
import { deviceNamed, idOf } from '../devices/registry.ts';
import type { MachineHandle, NativeAddon, TakenFigures, VcpuStatistics } from '../native.ts';

/** By device and name. */
export type Counters = Record<string, Record<string, bigint>>;

export class MachineFigures {
  private readonly native: NativeAddon;
  private held: TakenFigures | undefined;
  private knownBalloonSize = 0;

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

  /** Bytes in the balloon of a machine made of that configuration; the last that is known while it does not answer. */
  balloonSize({ balloon }: VmConfig, machine: MachineHandle): number {
    if (balloon === undefined) return 0;
    try {
      const status = this.native.machineStatus(machine);
      this.knownBalloonSize = status[idOf(deviceNamed('balloon'), balloon)]?.size ?? 0;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'EBUSY' && code !== 'ERR_TSVMM_NO_MACHINE') throw error;
    }
    return this.knownBalloonSize;
  }

  /** The next machine's balloon is empty. */
  machineGone(): void {
    this.knownBalloonSize = 0;
  }
}
