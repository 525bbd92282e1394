/** Changes a VM's sizes: hands each part of a request to the code that carries it out. */
import type { VmResize } from '../config/requests.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { deviceCalls } from './deviceOperations.ts';
import { wrapped } from './errors.ts';
import type { PendingVcpus } from './info.ts';
import type { Machine } from './machine.ts';
import type { DeviceStatus } from './machineFigures.ts';
import type { GoalKind } from './memoryGoals.ts';
import type { VcpuHotplug, VcpusVm } from './vcpuHotplug.ts';
import type { WaitLimits } from './waiting.ts';

/** The VM whose sizes these are. */
export interface SizedVm extends Omit<VcpusVm, 'emit'> {
  readonly emit: (
    event: Parameters<VcpusVm['emit']>[0] | 'resizing' | 'resized',
    texts?: Record<string, string>,
  ) => void;
  readonly machine: () => Machine | undefined;
  /** What devices tell, undefined while the machine does not answer. @throws VmmError if there is none */
  readonly status: () => DeviceStatus | undefined;
  readonly resizeBalloon: (bytes: Uint64) => Promise<void>;
}

export class VmSizes {
  private readonly vm: SizedVm;
  /** From the first change of the number of vCPUs on. */
  private vcpus: VcpuHotplug | undefined;

  constructor(vm: SizedVm) {
    this.vm = vm;
  }

  /**
   * Of a configuration that no machine has, they are written down, and whether they make sense shows when the VM boots.
   * Else one part of the machine comes after the other: an error in a later one does not undo an earlier one. For who
   * waits, it is no error that the guest was asked for the same before, and has not done it.
   */
  async resize(sizes: VmResize): Promise<void> {
    const { desired_vcpus: vcpus, desired_ram: memory, desired_balloon: balloon } = sizes;
    if (this.vm.machine() === undefined) return resizeConfig(this.vm.config(), sizes);
    this.vm.emit('resizing');
    if (vcpus !== undefined) await (await this.vcpuHotplug()).resize(vcpus, sizes.wait_ms !== undefined);
    if (memory !== undefined) await (await import('./memoryResize.ts')).resizeMemory(this.vm, memory);
    if (balloon !== undefined) await this.vm.resizeBalloon(balloon);
    this.vm.emit('resized');
  }

  /** @throws VmmError if there is no such zone */
  async resizeZone(id: string, bytes: Uint64): Promise<void> {
    const { resizeZone } = await import('./virtioMem.ts');
    const machine = this.vm.machine();
    const core = machine && deviceCalls(this.vm.native, machine);
    await wrapped('Failed resizing a memory zone', resizeZone(core, this.vm.config(), id, bytes));
  }

  /**
   * Resolves when the guest has done what it was asked for: of vCPUs in any case, of the rest if it is among `sizes`.
   * There is nothing to wait for without a machine.
   * @throws VmmError if that takes longer, or there is no machine any more; the signal's reason
   */
  async wait({ desired_ram: memory, desired_balloon: balloon }: VmResize, limits: WaitLimits): Promise<void> {
    if (this.vm.machine() === undefined) return;
    const kinds: GoalKind[] = [];
    if (memory !== undefined) kinds.push('memory');
    if (balloon !== undefined) kinds.push('balloon');
    // When one has failed, the other wait is given up.
    const failed = new AbortController();
    const signals = [failed.signal, ...(limits.signal ? [limits.signal] : [])];
    const both = { ...limits, signal: AbortSignal.any(signals) };
    try {
      await Promise.all([this.waitForVcpus(both), kinds.length > 0 && this.waitForDevices(kinds, both)]);
    } finally {
      failed.abort();
    }
  }

  /** As `wait`, for a zone. */
  async waitForZone(id: string, limits: WaitLimits): Promise<void> {
    if (this.vm.machine() !== undefined) await this.waitForDevices(['memory'], limits, id);
  }

  /** What the guest has not done yet. */
  get pendingVcpus(): PendingVcpus | undefined {
    return this.vcpus?.pending;
  }

  vcpuStarted(vcpu: number): void {
    this.vcpus?.started(vcpu);
  }

  vcpuEjected(vcpu: number): void {
    this.vcpus?.ejected(vcpu);
  }

  machineEnded(): void {
    this.vcpus?.machineEnded();
  }

  private async waitForVcpus(limits: WaitLimits): Promise<void> {
    await this.vcpus?.wait(limits);
    // None is waited for of a machine that has ended: whether there is another one by now shows here.
    this.vm.status();
  }

  private async waitForDevices(kinds: readonly GoalKind[], limits: WaitLimits, zone?: string): Promise<void> {
    const { waitForMemory } = await import('./memoryGoals.ts');
    await waitForMemory(this.vm, kinds, limits, zone);
  }

  private async vcpuHotplug(): Promise<VcpuHotplug> {
    const { VcpuHotplug } = await import('./vcpuHotplug.ts');
    this.vcpus ??= new VcpuHotplug(this.vm);
    return this.vcpus;
  }
}

async function resizeConfig(config: VmConfig, sizes: VmResize): Promise<void> {
  if (sizes.desired_ram !== undefined) {
    (await import('./memoryResize.ts')).resizeBootMemory(config, sizes.desired_ram);
  }
  if (sizes.desired_vcpus !== undefined) config.cpus.boot_vcpus = sizes.desired_vcpus;
  if (sizes.desired_balloon !== undefined && config.balloon) config.balloon.size = sizes.desired_balloon;
}
