/** An addon whose machines do what a test says; files are real. */
import { writeFileSync } from 'node:fs';
import { FileKind } from '../../../src/host/openFlags.ts';
import type {
  BootSpec,
  HostInfo,
  LateVcpu,
  MachineEvent,
  MachineHandle,
  MachineSpec,
  NativeAddon,
  PciFunctionSpec,
} from '../../../src/native.ts';
import { hostOf } from '../platform/support.ts';
import { type FakeDebug, fakeDebug } from './fakeDebug.ts';
import { type FakeNetwork, fakeNetwork } from './fakeNetwork.ts';
import { fakeStreams } from './fakeStreams.ts';
import { type NodeFiles, nodeFiles } from './nodeFiles.ts';

interface FakeMachine {
  readonly spec: MachineSpec;
  boot?: BootSpec;
  /** What was done to it, in order. */
  readonly calls: string[];
  /** Tells an event, as the core would; also after the machine's end, as the core never would. */
  readonly emit: (event: MachineEvent) => void;
}

export interface FakeNative extends NativeAddon {
  readonly files: NodeFiles;
  readonly network: FakeNetwork;
  readonly debug: FakeDebug;
  readonly machines: FakeMachine[];
  host: HostInfo;
  /** Runs before machineBoot resolves: throw to let it fail. */
  onBoot: (machine: FakeMachine) => void | Promise<void>;
  /** Runs before machineDestroy resolves: throw to let it fail. */
  onDestroy: (machine: FakeMachine) => void | Promise<void>;
  onCallOff: (machine: FakeMachine) => void;
  balloonSize: () => number;
  /** Runs before machineOperate of a disk resolves: throw to let it fail. */
  onResizeDisk: (id: string, bytes: number) => void | Promise<void>;
  onPlug: (spec: PciFunctionSpec) => void | Promise<void>;
  onPlugVcpus: (vcpus: readonly LateVcpu[]) => void | Promise<void>;
  onFinishUnplug: (id: string) => void | Promise<void>;
  /** What terminalRaw and terminalRestore were called with. */
  readonly terminalCalls: string[];
  /** Pseudo terminals are files of these names. */
  ptys: number;
}

/** @param folder where pseudo terminals and sockets are made, as ordinary files */
export function fakeNative(folder: string): FakeNative {
  const files = nodeFiles();
  const machines: FakeMachine[] = [];
  const debug = fakeDebug();
  const machineOf = (handle: MachineHandle) => handle as unknown as FakeMachine;
  const record = (name: string) => (handle: MachineHandle) => {
    machineOf(handle).calls.push(name);
  };
  const recordLater = (name: string) => async (handle: MachineHandle) => record(name)(handle);
  const native: FakeNative = {
    ...files,
    ...fakeStreams(files),
    ...fakeNetwork(() => files.openFile('/dev/null', 0, 0, FileKind.character)),
    ...debug,
    debug,
    files,
    machines,
    host: hostOf(),
    onBoot: () => {},
    onDestroy: () => {},
    onCallOff: () => {},
    balloonSize: () => 0,
    onResizeDisk: () => {},
    onPlug: () => {},
    onPlugVcpus: () => {},
    onFinishUnplug: () => {},
    terminalCalls: [],
    ptys: 0,
    precreateVm: () => {},
    hostInfo: () => native.host,
    machineCreate: (spec, emit) => {
      const machine: FakeMachine = { spec, calls: [], emit };
      machines.push(machine);
      return machine as unknown as MachineHandle;
    },
    machineBoot: async (handle, boot, paused) => {
      const machine = machineOf(handle);
      machine.calls.push(paused ? 'boot paused' : 'boot');
      machine.boot = boot;
      await native.onBoot(machine);
    },
    machinePause: recordLater('pause'),
    machineResume: recordLater('resume'),
    machineDestroy: async (handle) => {
      record('destroy')(handle);
      await native.onDestroy(machineOf(handle));
    },
    machineCallOff: (handle) => native.onCallOff(machineOf(handle)),
    holdSignals: () => {},
    releaseSignals: () => {},
    exitAtOnce: (code) => {
      throw new Error(`the process ended with ${code}`);
    },
    machineKeepAlive: (handle, alive) => {
      machineOf(handle).calls.push(alive ? 'ref' : 'unref');
    },
    machineAddMemory: async (handle, size) => void machineOf(handle).calls.push(`add-memory ${size}`),
    machinePowerButton: recordLater('power-button'),
    machineNmi: recordLater('nmi'),
    machinePlug: async (handle, spec) => {
      machineOf(handle).calls.push(`plug ${spec.id} at ${spec.slot}`);
      await native.onPlug(spec);
    },
    machineRequestUnplug: async (handle, id) => void machineOf(handle).calls.push(`request-unplug ${id}`),
    machineFinishUnplug: async (handle, id, force) => {
      machineOf(handle).calls.push(`finish-unplug ${id}${force ? ' by force' : ''}`);
      await native.onFinishUnplug(id);
    },
    machineOperate: async (handle, id, operation, operands) => {
      const { size, columns, rows } = operands as { size: number; columns?: number; rows?: number };
      const { calls, boot } = machineOf(handle);
      const kind = boot?.pci.functions.find((one) => one.id === id)?.kind;
      if (kind === 'console') calls.push(`${operation} ${columns}x${rows}`);
      else if (kind === 'balloon') calls.push(`${operation}-balloon ${size}`);
      else calls.push(`${operation} ${id} ${size}`);
      if (kind === 'block') await native.onResizeDisk(id, size);
    },
    machineSetVmGeneration: recordLater('set-vm-generation'),
    pinThread: () => {},
    randomBytes: (length) => new Uint8Array(length).fill(native.machines.length + 1),
    machineStatus: (handle) => {
      const balloon = machineOf(handle).boot?.pci.functions.find(({ kind }) => kind === 'balloon');
      return balloon ? { [balloon.id]: { ballooned: native.balloonSize() } } : {};
    },
    machineCounters: () => ({ _disk0: { read_ops: 1n } }),
    machinePlugVcpus: async (handle, vcpus) => {
      machineOf(handle).calls.push(`plug-vcpus ${vcpus.map(({ index }) => index).join(' ')}`);
      await native.onPlugVcpus(vcpus);
    },
    machineRequestVcpuUnplug: async (handle, first) => {
      machineOf(handle).calls.push(`request-vcpu-unplug ${first}`);
    },
    machineVcpuStatistics: () => [
      { index: 0, thread: process.pid, exits: { port: 7n, mmio: 2n }, hypervisor: { halt_exits: 3n } },
    ],
    machineFigures: (handle) => ({
      counters: native.machineCounters(handle),
      vcpus: native.machineVcpuStatistics(handle),
    }),
    machineDebugPort: () => ({ lastPostCode: 0, postCodes: 0 }),
    openPty: () => {
      const path = `${folder}/pty${native.ptys++}`;
      writeFileSync(path, '');
      return { fd: files.openFile(path, 2, 0, FileKind.regular), path };
    },
    streamPair: () => [
      files.openFile('/dev/null', 2, 0, FileKind.character),
      files.openFile('/dev/null', 2, 0, FileKind.character),
    ],
    terminalRaw: (fd) => {
      native.terminalCalls.push(`raw ${fd}`);
      return fd;
    },
    terminalRestore: (use) => {
      native.terminalCalls.push(`restore ${use}`);
    },
    terminalSize: () => ({ columns: 132, rows: 43 }),
    setTerminalSize: (fd, columns, rows) => {
      native.terminalCalls.push(`size ${fd} ${columns}x${rows}`);
    },
    connectUnix: () => files.openFile('/dev/null', 2, 0, FileKind.character),
    sendDescriptors: (_socket, bytes) => bytes.length,
  };
  return native;
}
