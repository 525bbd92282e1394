/**
 * vCPUs that come to a machine that runs, and leave it. The guest may take any time for both, or never answer: an added
 * vCPU is the guest's when the guest starts it, and one that it was asked to give up stays until it has.
 */
import type { VmConfig } from '../config/vmConfig.ts';
import type { NativeAddon } from '../native.ts';
import { planLateVcpus } from '../platform/plan.ts';
import { refusal, VmmError } from './errors.ts';
import type { PendingVcpus } from './info.ts';
import { hostInfo, type Machine } from './machine.ts';
import { Waiting, type WaitLimits } from './waiting.ts';

/** The VM whose vCPUs these are. */
export interface VcpusVm {
  readonly native: NativeAddon;
  readonly config: () => VmConfig;
  /** Runs what keeps the machine from answering. */
  readonly busy: <T>(work: (machine: Machine) => Promise<T>) => Promise<T>;
  /** Called when `vm.info` may have another answer. */
  readonly changed: () => void;
  readonly emit: (event: 'vcpu-started' | 'vcpu-removed', texts: Record<string, string>) => void;
}

export class VcpuHotplug {
  private readonly vm: VcpusVm;
  /** Added, and not started by the guest yet. */
  private readonly coming = new Set<number>();
  /** Those that the guest was asked for and has not given up. */
  private readonly leaving = new Set<number>();
  private readonly waiting = new Waiting();

  constructor(vm: VcpusVm) {
    this.vm = vm;
  }

  /**
   * Adds vCPUs, or asks the guest to give up the last ones. The number becomes part of the configuration.
   * @param again a removal of as many that has begun is no error: the guest is reminded
   * @throws VmmError `busy` while the guest has not given up what it was asked for; with nothing changed
   */
  async resize(count: number, again: boolean): Promise<void> {
    const { cpus } = this.vm.config();
    const before = cpus.boot_vcpus;
    if (this.leaving.size > 0) {
      if (again && count === before) return this.askFor(count);
      throw new VmmError(`The guest was asked before to give up ${namesOf(this.leaving)}, and has not yet`, {
        kind: 'busy',
      });
    }
    if (count < 1) throw refusal('A VM has at least one vCPU');
    if (count > cpus.max_vcpus) {
      throw refusal(`${count} vCPUs are more than cpus.max_vcpus (${cpus.max_vcpus})`);
    }
    if (count > before) await this.add(before, count);
    if (count < before) await this.remove(before, count);
    cpus.boot_vcpus = count;
    this.vm.changed();
  }

  /** The guest has begun to start a vCPU that was added. */
  started(vcpu: number): void {
    this.leave(this.coming, vcpu);
    this.vm.emit('vcpu-started', { vcpu: String(vcpu) });
  }

  /** The guest has given up a vCPU. */
  ejected(vcpu: number): void {
    this.leave(this.leaving, vcpu);
    this.vm.emit('vcpu-removed', { vcpu: String(vcpu) });
  }

  /** What the guest has not done yet; undefined if nothing. */
  get pending(): PendingVcpus | undefined {
    if (this.settled) return undefined;
    return { starting: inOrder(this.coming), leaving: inOrder(this.leaving) };
  }

  /** What the machine had begun means nothing to the next one, which has as many vCPUs as the configuration says. */
  machineEnded(): void {
    this.coming.clear();
    this.leaving.clear();
    this.waiting.tell();
  }

  /**
   * Resolves when the guest has started, or given up, all vCPUs that it was asked to.
   * @throws VmmError if that takes longer; the signal's reason
   */
  wait(limits: WaitLimits): Promise<void> {
    return this.waiting.until(
      () => this.settled,
      limits,
      () => this.lateText(),
    );
  }

  private get settled(): boolean {
    return this.coming.size === 0 && this.leaving.size === 0;
  }

  private lateText(): string {
    const whats = [
      ...(this.coming.size > 0 ? [`started ${namesOf(this.coming)}`] : []),
      ...(this.leaving.size > 0 ? [`given up ${namesOf(this.leaving)}`] : []),
    ];
    return `The guest has not ${whats.join(' or ')}`;
  }

  private async add(from: number, to: number): Promise<void> {
    const vcpus = planLateVcpus(this.vm.config(), hostInfo(this.vm.native), from, to);
    // Before they are there: the guest may be faster than the answer.
    for (const { index } of vcpus) this.coming.add(index);
    try {
      await this.vm.busy(({ handle }) => this.vm.native.machinePlugVcpus(handle, vcpus));
    } catch (error) {
      for (const { index } of vcpus) this.coming.delete(index);
      this.waiting.tell();
      throw error;
    }
  }

  private async remove(from: number, to: number): Promise<void> {
    for (let vcpu = to; vcpu < from; vcpu++) this.leaving.add(vcpu);
    try {
      await this.askFor(to);
    } catch (error) {
      this.leaving.clear();
      this.waiting.tell();
      throw error;
    }
    // The guest may still start them, and give them up then.
    for (const vcpu of this.coming) if (vcpu >= to) this.coming.delete(vcpu);
  }

  private askFor(first: number): Promise<void> {
    return this.vm.busy(({ handle }) => this.vm.native.machineRequestVcpuUnplug(handle, first));
  }

  private leave(set: Set<number>, vcpu: number): void {
    if (set.delete(vcpu)) this.waiting.tell();
  }
}

/** `vCPU 3`, or `vCPUs 2 and 3`. */
function namesOf(vcpus: ReadonlySet<number>): string {
  const names = inOrder(vcpus).map(String);
  const last = names.pop();
  return names.length === 0 ? `vCPU ${last}` : `vCPUs ${names.join(', ')} and ${last}`;
}

function inOrder(vcpus: ReadonlySet<number>): number[] {
  return [...vcpus].sort((a, b) => a - b);
}
