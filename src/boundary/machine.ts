/** Everything that is done to machines, as messages to the core. */
import type { PciFunctionSpec } from './deviceSpec.ts';
import type { MachineEvent } from './machineEvents.ts';
import type { BootSpec, LateVcpu, MachineSpec } from './machineSpec.ts';

/** Opaque, type-tagged handle of one machine. */
export type MachineHandle = { readonly __machine: unique symbol };

/** At most four in a processor. */
export interface HardwareBreakpoint {
  readonly kind: 'execute' | 'write' | 'access';
  /** Linear. */
  readonly address: bigint;
  /** Bytes: 1, 2, 4 or 8; 1 to execute. */
  readonly length: number;
}

/** Registers as `struct kvm_regs`, as `kvm_sregs`, and as the XSAVE area up to and with the part of AVX. */
export type RegisterSet = 'general' | 'special' | 'vector';

/** What a vCPU has done since it was made. */
export interface VcpuStatistics {
  readonly index: number;
  /** The kernel's id of its thread. */
  readonly thread: number;
  /** Returns to this process, by what for. */
  readonly exits: Readonly<Record<string, bigint>>;
  /** KVM's own (KVM_GET_STATS_FD); empty where the kernel tells nothing. */
  readonly hypervisor: Readonly<Record<string, bigint>>;
}

/** For a debugger. All but the first reject with code EBUSY while the machine is not stopped for it. */
export interface DebugCalls {
  /**
   * Keeps all vCPUs out of the guest from now on, whether the machine is paused or not; resolves when they are. Devices
   * go on. ETIMEDOUT as for machinePause.
   */
  machineDebugStop(machine: MachineHandle): Promise<void>;
  /**
   * Takes that back, with an order for each vCPU; `software` are addresses of breakpoint instructions that are the
   * debugger's.
   */
  machineDebugResume(
    machine: MachineHandle,
    orders: readonly ('hold' | 'run' | 'step')[],
    traps: { readonly hardware: readonly HardwareBreakpoint[]; readonly software: readonly bigint[] },
  ): Promise<void>;
  machineDebugRegisters(machine: MachineHandle, vcpu: number, set: RegisterSet): Promise<Uint8Array>;
  machineDebugSetRegisters(
    machine: MachineHandle,
    vcpu: number,
    set: RegisterSet,
    bytes: Uint8Array,
  ): Promise<void>;
  /** Where the page tables that the vCPU uses have a linear address; null if nowhere. */
  machineDebugTranslate(machine: MachineHandle, vcpu: number, address: bigint): Promise<bigint | null>;
  /**
   * Up to 4096 bytes of RAM by their guest-physical address; null unless all of it is RAM. Also while the guest runs.
   */
  machineDebugRead(machine: MachineHandle, address: bigint, length: number): Promise<Uint8Array | null>;
  machineDebugWrite(machine: MachineHandle, address: bigint, bytes: Uint8Array): Promise<boolean>;
}

/**
 * What a machine had counted at one moment. The core keeps it until the next is taken; it is decoded when it is looked
 * at, which takes long and is seldom.
 */
export interface TakenFigures {
  /** Device id to counter name to value, for devices that count. */
  readonly counters: Record<string, Record<string, bigint>>;
  /** Of those that there were, in order of their index. */
  readonly vcpus: readonly VcpuStatistics[];
}

/**
 * What a machine tells about itself. It changes nothing and asks no thread: it is read from what the core has in
 * memory.
 */
export interface MachineQuestions {
  /** Device id to counter name to value, for devices that count. */
  machineCounters(machine: MachineHandle): Record<string, Record<string, bigint>>;
  /** What is so at this moment: device id to name to value, for devices that tell. */
  machineStatus(machine: MachineHandle): Record<string, Record<string, number>>;
  /** Of those that there are, in order of their index. */
  machineVcpuStatistics(machine: MachineHandle): VcpuStatistics[];
  /** Both at this moment. */
  machineFigures(machine: MachineHandle): TakenFigures;
  /** The last value written to port 0x80 and how many there were. */
  machineDebugPort(machine: MachineHandle): { readonly lastPostCode: number; readonly postCodes: number };
}

/**
 * Everything that is done to machines. It crosses as messages (src/boundary/), so that the core could be in another
 * process. Promises reject with, and questions throw, an Error with `code` (errno name or `ERR_TSVMM_*`).
 */
export interface MachineCalls extends DebugCalls, MachineQuestions {
  /**
   * Starts building (VM, memory, vCPUs) on a thread of its own and returns at once. Failures surface in machineBoot.
   */
  machineCreate(spec: MachineSpec, onEvent: (event: MachineEvent) => void): MachineHandle;
  /** Loads, adds devices and starts the vCPUs; if `paused`, the guest's first instruction waits for machineResume. */
  machineBoot(machine: MachineHandle, boot: BootSpec, paused?: boolean): Promise<void>;
  /**
   * Rejects with ETIMEDOUT, and names what it waited for, if a vCPU or a device does not come to rest for 10 s; the
   * guest then goes on as before.
   */
  machinePause(machine: MachineHandle): Promise<void>;
  machineResume(machine: MachineHandle): Promise<void>;
  /**
   * Stops everything and frees all host resources of the machine; what is in progress is called off. Idempotent; no
   * event is sent afterwards. Rejects with ETIMEDOUT, and names what it waited for, if something does not come to its
   * end for `timeoutMs` (10 s unless given): the machine is gone then, but its memory and files are kept until that
   * has.
   */
  machineDestroy(machine: MachineHandle, timeoutMs?: number): Promise<void>;
  /** The machine is going to be destroyed: what is in progress fails with ECANCELED as soon as it can. */
  machineCallOff(machine: MachineHandle): void;
  /** Whether the machine keeps the process's event loop alive, which it does at first. */
  machineKeepAlive(machine: MachineHandle, alive: boolean): void;
  /**
   * Adds a device and notifies the guest, which chooses the addresses of its registers. Rejects, with nothing added, if
   * its place is taken or it cannot be made.
   */
  machinePlug(machine: MachineHandle, spec: PciFunctionSpec): Promise<void>;
  /**
   * Asks the guest to give up a device. `device-ejected` follows as soon as it has, which may be never.
   * ERR_TSVMM_NO_DEVICE if there is no such device.
   */
  machineRequestUnplug(machine: MachineHandle, device: string): Promise<void>;
  /**
   * Ends and frees a device that the guest has ejected or, with `force`, has not. EBUSY if it is still the guest's;
   * ETIMEDOUT as for machinePause, and the call may be repeated: the guest does not see the device any more.
   */
  machineFinishUnplug(machine: MachineHandle, device: string, force: boolean): Promise<void>;
  /**
   * Adds so many bytes to the first memory zone, and tells the guest. Rejects, with nothing added, with ENOSPC if there
   * is no place for them, or were eight additions before.
   */
  machineAddMemory(machine: MachineHandle, size: number): Promise<void>;
  /**
   * Adds vCPUs, behind those that there are, and notifies the guest. `vcpu-started` follows when it starts one.
   * Rejects, with none added, if they cannot be made, or one that was given up does not leave the guest for 10 s.
   */
  machinePlugVcpus(machine: MachineHandle, vcpus: readonly LateVcpu[]): Promise<void>;
  /**
   * Asks the guest to give up all vCPUs from `first` on, but for vCPU 0. `vcpu-ejected` follows for each as soon as it
   * has, which may be never. To ask again reminds it.
   */
  machineRequestVcpuUnplug(machine: MachineHandle, first: number): Promise<void>;
  machinePowerButton(machine: MachineHandle): Promise<void>;
  machineNmi(machine: MachineHandle): Promise<void>;
  /** Tells the guest that it is a copy, or went back in time, by 16 bytes that it has not seen before. */
  machineSetVmGeneration(machine: MachineHandle, id: Uint8Array): Promise<void>;
  /**
   * Carries out a control operation of a device, which the device's own file in native/virtio/ names and describes.
   * ERR_TSVMM_NO_DEVICE if there is no such device, ENOTSUP if it has no such operation, ETIMEDOUT as for machinePause.
   */
  machineOperate(machine: MachineHandle, device: string, operation: string, operands: object): Promise<void>;
}
