/**
 * The boundary to the C++ core: its types, and the one place that loads the addon. Two interfaces, of machines and of
 * the host.
 *
 * What crosses for a machine are messages (src/boundary/): plain values, bytes and descriptors, which could cross a
 * socket as well. Addresses and sizes are bytes in JavaScript numbers (guest physical addresses have at most 52 bits).
 * Descriptors stay the caller's: the core duplicates what it keeps.
 */
import { type Descriptor, encode } from './boundary/cbor.ts';
import { type MachineAddon, machineCalls } from './boundary/machineCalls.ts';
import { loadAddon } from './host/addon.ts';

/** Opaque, type-tagged handle of one machine. */
export type MachineHandle = { readonly __machine: unique symbol };

/** What the host's hypervisor offers. */
export interface HostInfo {
  /** KVM_GET_API_VERSION, always 12. */
  readonly apiVersion: number;
  /** KVM_GET_SUPPORTED_CPUID as packed `struct kvm_cpuid_entry2` (40 bytes each). */
  readonly supportedCpuid: Uint8Array;
  /** Host physical address width in bits (CPUID 0x80000008, reduced for memory encryption). */
  readonly physBits: number;
  /** Highest vCPU count that KVM accepts for one VM. */
  readonly maxVcpus: number;
  /** TSC frequency in kHz, 0 when the host's is not invariant. */
  readonly tscKhz: number;
  /** True if guest ring-0 code runs on hardware virtualization (VMX or SVM); false on a page-table based KVM. */
  readonly hardwareVirtualization: boolean;
}

export interface MemoryRange {
  readonly address: number;
  readonly size: number;
}

/** A part of the guest's memory with a backing of its own. All ranges of all zones are page-aligned and disjoint. */
export interface MemoryZoneSpec {
  readonly id: string;
  /** The guest's from the start. */
  readonly regions: readonly MemoryRange[];
  /** The guest's as far as a virtio-mem device hands it out, which finds it by the zone's id. */
  readonly hotplug?: MemoryRange;
  /** Map shared (another process may map the descriptor) rather than private. */
  readonly shared: boolean;
  /** Huge page size in bytes, 0 for ordinary pages. */
  readonly hugepageSize: number;
  readonly prefault: boolean;
  readonly mergeable: boolean;
  readonly thp: boolean;
  readonly reserve: boolean;
  /** NUMA node of the host that the memory comes from, and no other. */
  readonly hostNode?: number;
  /** What backs it, `hotplug` behind the regions; unless `shared`, what the guest writes does not reach it. */
  readonly file?: Descriptor;
}

/** What a machine is made of before anything is known of its payload: enough to start building it. */
export interface MachineSpec {
  readonly memory: {
    readonly zones: readonly MemoryZoneSpec[];
    /** Page-aligned address space, for what is added to the first zone while the machine runs. */
    readonly growth?: MemoryRange;
  };
  /** One entry per boot vCPU, by index. */
  readonly vcpus: readonly VcpuPlacement[];
  /** Of all vCPUs that there may ever be. */
  readonly highestVcpuId: number;
}

export interface VcpuPlacement {
  /** As the architecture numbers it: an APIC id. */
  readonly id: number;
  /** Host CPUs, empty for any. */
  readonly affinity: readonly number[];
}

/** A vCPU that comes to a machine that runs. `cpuid` and `msrs` are as in BootSpec, of one vCPU. */
export interface LateVcpu extends VcpuPlacement {
  readonly index: number;
  readonly cpuid: Uint8Array;
  readonly msrs: Uint8Array;
}

/** Where bytes come from that are put into guest memory before the first run. */
export type LoadItem =
  | { readonly address: number; readonly bytes: Uint8Array }
  | { readonly address: number; readonly fd: Descriptor; readonly offset: number; readonly length: number };

/** How vCPU 0 starts: 32-bit protected mode, paging off, flat segments (PVH and the Linux 32-bit protocol). */
export interface ProtectedModeEntry {
  readonly rip: number;
  readonly rbx: number;
  readonly rsi: number;
  readonly rsp: number;
  /** Where the descriptors of the selectors 0x10 (code), 0x18 (data) and 0x20 (task) were loaded. */
  readonly gdtAddress: number;
  /** Bytes of the table less one. */
  readonly gdtLimit: number;
}

/**
 * The host end of a character device. `tty` reads `input`, if there is one, and writes `output`. `log` gets the output
 * as well.
 */
export type CharBackendSpec = CharBackendKind & { readonly log?: Descriptor };

type CharBackendKind =
  | { readonly kind: 'null' }
  | { readonly kind: 'tty'; readonly input?: Descriptor; readonly output: Descriptor }
  | { readonly kind: 'file'; readonly fd: Descriptor }
  | { readonly kind: 'pty'; readonly fd: Descriptor }
  | { readonly kind: 'socket'; readonly listener: Descriptor };

/** The right to listen on a path. */
export interface SocketClaim {
  /** The lock's descriptor, the caller's: to be kept open as long as the claim. */
  readonly lock: number;
  /** Of the lock file; empty if that was there already, and is to stay. */
  readonly lockId: string;
}

/** A UNIX socket that this process listens on. */
export interface ListeningSocket {
  /** The caller's. */
  readonly listener: number;
  /** Of the socket's file. */
  readonly id: string;
}

export type ImageFormat = 'raw' | 'qcow2' | 'vhd' | 'vhdx';

export interface ImageLayer {
  readonly fd: Descriptor;
  readonly format: ImageFormat;
}

/** Of bytes or operations; with size or refill time 0 there is no limit. */
export interface TokenBucketSpec {
  readonly size: number | bigint;
  /** Tokens on top of a full bucket, which go first and never come back. */
  readonly oneTimeBurst: number | bigint;
  /** How long an empty bucket takes to fill. */
  readonly refillTimeMs: number | bigint;
}

/** What a network device is plugged into. */
export type NetworkSpec =
  /** A tap by one descriptor for each pair of queues, opened with IFF_VNET_HDR. */
  | {
      readonly kind: 'tap';
      readonly fds: readonly Descriptor[];
      /** /dev/vhost-net, opened for each pair of queues: the kernel is to move the frames. Empty if not. */
      readonly vhost: readonly Descriptor[];
    }
  /** A connected stream socket with each frame behind its length, as passt has. One pair of queues. */
  | { readonly kind: 'stream'; readonly fd: Descriptor };

export interface RateLimiterSpec {
  /** Devices that name the same group share its limits; '' for limits of the device's own. */
  readonly group: string;
  readonly bandwidth: TokenBucketSpec;
  readonly operations: TokenBucketSpec;
}

/**
 * What a device is to be: its kind, and what that takes. `src/devices/NAME.ts` writes it and `native/virtio/NAME.cc`
 * reads it, which refuses what it does not know; nobody between them looks at it.
 */
export interface DeviceSpec {
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** A device, and where it is on the bus. */
export interface PciFunctionSpec extends DeviceSpec {
  readonly id: string;
  readonly segment: number;
  /** Device number on the segment's bus 0, 0 to 31; 0 of segment 0 is the host bridge's. */
  readonly slot: number;
  readonly bar0: number;
  readonly bar0Is64Bit: boolean;
  /** Of a device with memory of its own; always 64-bit. */
  readonly bar2?: number;
  /** Its accesses go through the machine's IOMMU. */
  readonly iommu?: boolean;
}

/** Everything else a machine needs to start. */
export interface BootSpec {
  /** For each vCPU packed `struct kvm_cpuid_entry2`. */
  readonly cpuid: readonly Uint8Array[];
  /** Packed `struct kvm_msr_entry`, the same for every vCPU. */
  readonly msrs: Uint8Array;
  readonly entry: ProtectedModeEntry;
  readonly load: readonly LoadItem[];
  readonly ioapic: { readonly address: number };
  readonly serial?: {
    readonly id: string;
    readonly port: number;
    readonly gsi: number;
    readonly backend: CharBackendSpec;
  };
  readonly debugConsole?: { readonly id: string; readonly port: number; readonly backend: CharBackendSpec };
  /** `port` is the index register, `port + 1` the data register. Sizes are what the CMOS reports. */
  readonly cmos: {
    readonly port: number;
    readonly gsi: number;
    readonly memoryBelow4G: number;
    readonly memoryAbove4G: number;
  };
  /** `eventsPort` has the PM1 event block, behind it PM1 control and general-purpose event block 0. */
  readonly acpi: {
    readonly sleepResetPort: number;
    readonly pmTimerPort: number;
    readonly eventsPort: number;
    readonly sciGsi: number;
  };
  readonly ged: { readonly address: number; readonly gsi: number };
  readonly pciHotplug: { readonly address: number };
  /** Of a machine that may get more memory. `proximity` is the guest's NUMA node of what is added. */
  readonly memoryHotplug?: { readonly address: number; readonly proximity: number };
  /** Absent where vCPUs are there for good. `present` of them are there at boot, of at most `most`. */
  readonly cpuHotplug?: { readonly address: number; readonly present: number; readonly most: number };
  /** The guest waits for machineDebugResume. */
  readonly held?: true;
  /** The guest address of the 16 bytes that `machineSetVmGeneration` changes. */
  readonly vmGeneration: { readonly address: number };
  readonly pci: {
    readonly ecam: number;
    /** By number, at least one. */
    readonly segments: readonly {
      readonly window32: { readonly start: number; readonly size: number };
      readonly window64: { readonly start: number; readonly size: number };
    }[];
    readonly functions: readonly PciFunctionSpec[];
    /** Where a guest tells that its kernel failed; its BAR is 4 KiB. */
    readonly pvpanic?: { readonly slot: number; readonly bar0: number };
  };
}

export type ResetCause = 'acpi' | 'i8042' | 'cmos' | 'triple-fault' | 'watchdog';

/** What a machine tells. The first three end its run: exactly one of them is sent, at most once. */
export type MachineEvent =
  | { readonly type: 'power-off' }
  | { readonly type: 'reset'; readonly cause: ResetCause }
  | {
      readonly type: 'vcpu-error';
      readonly vcpu: number;
      readonly reason: 'internal-error' | 'fail-entry' | 'unexpected-exit' | 'run-failed';
      /** KVM suberror, hardware entry failure reason, exit reason or errno. */
      readonly code: number;
      /** For people: registers and instruction bytes at the failure. */
      readonly detail: string;
    }
  | { readonly type: 'device-activated'; readonly id: string }
  | { readonly type: 'device-reset'; readonly id: string }
  | ({ readonly type: 'debug-stop' } & DebugStop)
  /** A line that firmware wrote to its debug port (0x402). */
  | { readonly type: 'firmware-log'; readonly line: string }
  /** The guest's kernel failed; `crash_loaded`: it goes on with its crash kernel. Each comes once. */
  | { readonly type: 'guest-panic'; readonly event: 'panic' | 'crash_loaded' }
  /** A person at a terminal typed Ctrl-A x. */
  | { readonly type: 'terminal-escape' }
  /** The device went to DEVICE_NEEDS_RESET. */
  | { readonly type: 'device-failed'; readonly id: string; readonly reason: string }
  /** The guest has given up a device that it was asked for: machineFinishUnplug is next. */
  | { readonly type: 'device-ejected'; readonly id: string }
  /** The guest begins to start a vCPU that was added. Comes once for each that machinePlugVcpus adds. */
  | { readonly type: 'vcpu-started'; readonly vcpu: number }
  /** The guest has given up a vCPU that it was asked for. */
  | { readonly type: 'vcpu-ejected'; readonly vcpu: number }
  /** Something that a person may want to know, such as the engine that a disk's I/O goes through. */
  | { readonly type: 'device-note'; readonly id: string; readonly text: string }
  /** Something that a person should be told of, such as an I/O error of the host. Each text comes once for a device. */
  | { readonly type: 'device-warning'; readonly id: string; readonly text: string }
  /**
   * A file of the host did not take what the guest printed on the serial port or a console: its host end's output, or
   * its log. Each error comes once for a file.
   */
  | {
      readonly type: 'output-failed';
      readonly id: string;
      readonly file: 'output' | 'log';
      readonly reason: string;
    };

/** A vCPU met what the debugger asked for; the others are about to stop. */
export interface DebugStop {
  readonly vcpu: number;
  readonly cause: 'step' | 'breakpoint' | 'hardware-breakpoint' | 'write-watchpoint' | 'access-watchpoint';
  /** Of a watchpoint: what is watched. Else where the vCPU is. Linear. */
  readonly address: bigint;
}

/** At most four in a processor. */
export interface HardwareBreakpoint {
  readonly kind: 'execute' | 'write' | 'access';
  /** Linear. */
  readonly address: bigint;
  /** Bytes: 1, 2, 4 or 8; 1 to execute. */
  readonly length: number;
}

/** Registers as `struct kvm_regs`, `kvm_sregs` and `kvm_fpu`. */
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

/** Opaque, type-tagged handle of a stream server. */
export type StreamServerHandle = { readonly __streamServer: unique symbol };

/**
 * What happens to a connection of a stream server. `received`: streamTake has something; said again once it has nothing
 * more. `drained`: everything written has left, or is lost, after some of it had to wait. `closed`: nothing more comes
 * of it.
 */
export type StreamEvent = 'opened' | 'received' | 'drained' | 'closed';

/** What became of bytes: all have left, some wait for the peer to read, or there is no peer any more. */
export type StreamWritten = 'left' | 'waiting' | 'lost';

export interface StreamReceived {
  readonly bytes: Uint8Array;
  /** Came along with the last of these bytes (SCM_RIGHTS). The caller closes them. */
  readonly descriptors: readonly number[];
  /** There is something to be taken still. */
  readonly more: boolean;
  /** The peer will send no more; it may still read. */
  readonly ended: boolean;
  /** The peer is gone: nothing that is written reaches it. */
  readonly gone: boolean;
}

/** What goes around the body of an answer, before and behind the number of its bytes. */
export interface AnswerFrame {
  readonly head: string;
  readonly afterLength: string;
}

/** An answer as text around the memory that the guest has: what devices give it and take at any time. */
export interface MemoryText extends AnswerFrame {
  /** Of the body. */
  readonly before: string;
  readonly after: string;
  /** Bytes at boot, and now. */
  readonly memory: number;
  readonly left: number;
}

/** An answer as text with counters between. */
export interface CountersText extends AnswerFrame {
  /** Text, and the counter whose value follows it. */
  readonly pieces: readonly { readonly text: string; readonly device: string; readonly counter: string }[];
  readonly tail: string;
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
   * Adds a device and tells the guest, which decodes its registers where it likes. Rejects, with nothing added, if its
   * place is taken or it cannot be made.
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
   * Adds vCPUs, behind those that there are, and tells the guest, which starts them as it likes: `vcpu-started` tells.
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

/**
 * What the host offers, and files, terminals, networks and sockets, which stay this process's. Throws an Error with
 * `code`.
 */
export interface HostCalls {
  /**
   * For a process that is about to start a machine: on a thread, makes the VM that the first machineCreate then takes,
   * and finds out about the host. Throws if KVM cannot be used.
   */
  precreateVm(): void;
  /** Throws if KVM cannot be used. Begins to read the CPUID table on a thread, so an early call saves time later. */
  hostInfo(): Omit<HostInfo, 'supportedCpuid'>;
  /** HostInfo's; waits for the thread that reads it. */
  supportedCpuid(): Uint8Array;

  /** Opens a pseudo terminal, raw; `path` is the slave. The caller closes `fd`. */
  openPty(): { readonly fd: number; readonly path: string };
  /**
   * Takes the lock file beside a socket's path, and with it the right to make and remove the socket. What is there is
   * left alone, but for a socket of this user's that nobody listens on. Throws with code EADDRINUSE, or
   * ERR_TSVMM_SOCKET_LOCKED if another process has the lock.
   */
  claimSocket(path: string): SocketClaim;
  /** Listens on a UNIX stream socket, the user's alone, at a path that is claimed; close-on-exec. */
  listenUnix(path: string): ListeningSocket;
  /**
   * Removes the files of a socket (each unless its id is empty) where they are still its own. The lock must be open.
   */
  removeListeningSocket(path: string, id: string, lockId: string): void;
  /**
   * Serves a listening stream socket (a duplicate of `fd`) on a thread of its own, until `closeStreams`.
   * Throws `ERR_TSVMM_NO_LISTENER` for any other descriptor. Numbers of connections that are gone do no harm.
   */
  serveStreams(fd: number, onEvent: (connection: number, event: StreamEvent) => void): StreamServerHandle;
  /** The same, for connections that are adopted, until it is told to listen. */
  openStreams(onEvent: (connection: number, event: StreamEvent) => void): StreamServerHandle;
  /**
   * Accepts on a listening stream socket (a duplicate of `fd`), and keeps so many connections.
   * Throws `ERR_TSVMM_NO_LISTENER` for any other descriptor, EBUSY if the server listens already.
   */
  streamListen(server: StreamServerHandle, fd: number, connections: number): void;
  /** Serves a connected stream socket (a duplicate of `fd`). @returns its number, of which `opened` does not tell */
  streamAdopt(server: StreamServerHandle, fd: number): number;
  /** At most 64 KiB are received and not taken. */
  streamTake(server: StreamServerHandle, connection: number): StreamReceived;
  /** Bytes leave in order. Where some wait for the peer to read, `drained` comes when they have left. */
  streamWrite(server: StreamServerHandle, connection: number, bytes: Uint8Array): StreamWritten;
  /**
   * Says that everything received is answered: what comes next may be answered by what is remembered. False, and it
   * may not, while bytes wait for the peer to read, be it of a remembered answer: `drained` comes when they have left.
   */
  streamRest(server: StreamServerHandle, connection: number): boolean;
  /** Takes no more of this connection, and closes it when everything written has left. */
  streamEnd(server: StreamServerHandle, connection: number): void;
  streamAbort(server: StreamServerHandle, connection: number): void;
  /** The connection that has had nothing to answer, and nothing on its way, for the longest time. */
  streamLongestIdle(server: StreamServerHandle): number | null;
  /** Answers `request`, wherever a resting connection sends just these bytes, without asking again. 32 can be kept. */
  streamRemember(server: StreamServerHandle, request: Uint8Array, answer: Uint8Array): void;
  /**
   * Answers it with the memory that a machine's guest has at that moment. While the machine is being changed, that is
   * what it was before.
   */
  streamRememberMemory(
    server: StreamServerHandle,
    request: Uint8Array,
    machine: MachineHandle,
    answer: MemoryText,
  ): void;
  /**
   * Answers it with a machine's counters of that moment. While the machine is being changed, and once it counts other
   * things, the request is asked about again. Throws if these are not just the counters that there are now.
   */
  streamRememberCounters(
    server: StreamServerHandle,
    request: Uint8Array,
    machine: MachineHandle,
    answer: CountersText,
  ): void;
  /** From the return on, what was remembered for this request is not given. */
  streamForget(server: StreamServerHandle, request: Uint8Array): void;
  /** Accepts no more connections. */
  stopListening(server: StreamServerHandle): void;
  /** Closes all connections; no event comes any more. Idempotent. */
  closeStreams(server: StreamServerHandle): void;
  /** Two connected UNIX stream sockets, close-on-exec. The caller closes both. */
  streamPair(): [number, number];
  /**
   * Takes an open-file-description write or read lock on a byte range (length 0: to the end). False if another holds
   * it.
   */
  lockRange(fd: number, exclusive: boolean, start: number, length: number): boolean;
  /** A lock of another description in a byte range, or null if there is none. */
  lockHolder(
    fd: number,
    start: number,
    length: number,
  ): { readonly start: number; readonly exclusive: boolean } | null;
  /** Gives back what lockRange took there. */
  unlockRange(fd: number, start: number, length: number): void;
  /** Puts a terminal into raw mode; returns the settings to restore, or null if `fd` is no terminal. */
  terminalRaw(fd: number): Uint8Array | null;
  terminalRestore(fd: number, saved: Uint8Array): void;
  terminalSize(fd: number): { readonly columns: number; readonly rows: number } | null;
  setTerminalSize(fd: number, columns: number, rows: number): void;

  /**
   * Connects to the UNIX stream socket at a path, without waiting. The caller closes. To a console's socket, `reader`
   * says that nothing will be sent: whoever is connected as more than a reader stays so. Throws with an errno name,
   * EAGAIN while too many clients wait there.
   */
  connectUnix(path: string, reader: boolean): number;
  /**
   * Sends bytes (at least one) and descriptors (1 to 253) over a stream socket, without waiting. Returns how many bytes
   * left; the descriptors left with the first of them, and stay the caller's as well.
   */
  sendDescriptors(socket: number, bytes: Uint8Array, descriptors: readonly number[]): number;
  /** The same for two descriptors of one file, and for no others. */
  fileId(fd: number): string;
  /** fileId of what a path leads to; null if that cannot be looked at. */
  fileIdAt(path: string): string | null;
  /** Size in bytes of a regular file or block device. */
  imageSize(fd: number): number;

  /**
   * Opens `queues` queues of a tap with vnet headers; makes it if it is not there. `%d` in a name stands for a number
   * that the kernel chooses for a new one. The caller closes.
   */
  openTap(
    name: string,
    queues: number,
  ): { readonly fds: readonly number[]; readonly name: string; readonly created: boolean };
  /** The interface that a tap's descriptor belongs to. */
  tapQueueInfo(fd: number): {
    readonly name: string;
    readonly tap: boolean;
    readonly vnetHeader: boolean;
    readonly multiQueue: boolean;
  };
  /** null if there is no such interface in this network namespace. */
  interfaceInfo(
    name: string,
  ): { readonly up: boolean; readonly mtu: number; readonly mac: Uint8Array } | null;
  // These change what is not so already, which needs CAP_NET_ADMIN.
  bringInterfaceUp(name: string): void;
  setInterfaceMtu(name: string, mtu: number): void;
  setInterfaceMac(name: string, mac: Uint8Array): void;
  /** Address and mask in their usual notation, both IPv4 or both IPv6. */
  setInterfaceAddress(name: string, address: string, mask: string): void;
  /** Makes an interface a port of a bridge; one that is so already stays. */
  putIntoBridge(name: string, bridge: string): void;

  // Files on the start path go through the addon: loading node:fs costs the standalone executable 1 ms.
  /**
   * open(2) that neither blocks nor touches what is not of a kind in `kinds` (FileKind); close-on-exec. `mode` is that
   * of a file it creates. Throws with `code` an errno name, or ERR_TSVMM_FILE_KIND.
   */
  openFile(path: string, flags: number, mode: number, kinds: number): number;
  closeFile(fd: number): void;
  /**
   * The runtime closes this descriptor from now on. Others that the addon gave are closed when a worker thread ends.
   */
  disownFile(fd: number): void;
  /** pread(2), repeated until `length` bytes or the end of the file. */
  readAt(fd: number, offset: number, length: number): Uint8Array;
  /** ftruncate(2). */
  setFileSize(fd: number, size: number): void;
  /**
   * Writes to a descriptor of any kind, which others may share, without blocking. Returns how many bytes were taken:
   * fewer only if a reader is slow. What can never be written (no reader any more, a full disk) counts as taken.
   */
  writeNow(fd: number, bytes: Uint8Array): number;
  /**
   * Sends one datagram to a UNIX socket's path, or to an abstract name behind an `@`. Throws EAGAIN where it would have
   * to wait.
   */
  sendDatagram(address: string, bytes: Uint8Array): void;
  /** Up to 256 bytes that nobody can guess. */
  randomBytes(length: number): Uint8Array;
  /**
   * Restricts a thread of any process of this user's, by its id, to those host CPUs. EINVAL if none of them is there.
   */
  pinThread(thread: number, cpus: readonly number[]): void;
  /**
   * Ends the process with this exit code, without handlers and without waiting for threads: for one whose threads may
   * be stuck in the kernel, after everything else has been done.
   */
  exitAtOnce(code: number): never;
}

type RememberText = (
  server: StreamServerHandle,
  request: Uint8Array,
  machine: MachineHandle,
  text: Uint8Array,
) => void;

/** HostCalls as the addon has them. */
type HostAddon = Omit<HostCalls, 'streamRememberMemory' | 'streamRememberCounters'> & {
  readonly streamRememberMemory: RememberText;
  readonly streamRememberCounters: RememberText;
};

/** Both. */
export interface NativeAddon extends MachineCalls, HostCalls {}

let loaded: NativeAddon | undefined;

/** Loads the addon when it is first asked for. @throws Error `ERR_TSVMM_ADDON` if there is none or it does not load */
export function loadNative(): NativeAddon {
  loaded ??= nativeOf(loadAddon());
  return loaded;
}

/** The interfaces of an addon that is loaded. */
export function nativeOf(addon: unknown): NativeAddon {
  const loading = addon as MachineAddon & HostAddon;
  return {
    ...loading,
    ...machineCalls(loading),
    streamRememberMemory: (server, request, machine, answer) =>
      loading.streamRememberMemory(server, request, machine, encode(answer).bytes),
    streamRememberCounters: (server, request, machine, answer) =>
      loading.streamRememberCounters(server, request, machine, encode(answer).bytes),
  };
}
