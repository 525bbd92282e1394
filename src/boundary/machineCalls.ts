/** The calls of machines as messages, which the addon hands over without a look at what is in them. */
import { type Decoded, decode, encode, encodeForNow } from './cbor.ts';
import type { MachineCalls, MachineHandle, VcpuStatistics } from './machine.ts';
import type { MachineEvent } from './machineEvents.ts';
import type { BootSpec, MachineSpec } from './machineSpec.ts';

/** What the addon has for machines. Messages are bytes and the descriptors that these name. */
export interface MachineAddon {
  machineCreate(
    spec: Uint8Array,
    descriptors: readonly number[],
    onEvent: (event: Uint8Array) => void,
  ): MachineHandle;
  /** Resolves with the answer, whatever it is. */
  machineCall(
    machine: MachineHandle,
    command: Uint8Array,
    descriptors: readonly number[],
  ): Promise<Uint8Array>;
  /** Returns the answer. */
  machineAsk(machine: MachineHandle, question: Uint8Array): Uint8Array;
  /** Keeps the answers to questions in the core, in place of those before. */
  machineKeep(machine: MachineHandle, questions: readonly Uint8Array[]): void;
  /** Returns the kept answer to the question of that index. */
  machineKept(machine: MachineHandle, index: number): Uint8Array;
  machineCallOff(machine: MachineHandle): void;
  machineKeepAlive(machine: MachineHandle, alive: boolean): void;
}

interface Fields {
  readonly [name: string]: unknown;
}

type Numbers = Record<string, number | bigint>;

export function machineCalls(addon: MachineAddon): MachineCalls {
  const answerTo = (machine: MachineHandle, command: string, operands: Fields = {}): Promise<Uint8Array> => {
    const { bytes, descriptors } = encodeForNow({ command, ...operands });
    return addon.machineCall(machine, bytes, descriptors);
  };
  const call = async (machine: MachineHandle, command: string, operands?: Fields): Promise<Decoded> =>
    read(await answerTo(machine, command, operands));
  const carryOut = async (machine: MachineHandle, command: string, operands?: Fields): Promise<void> => {
    const answer = await answerTo(machine, command, operands);
    if (!saysNothing(answer)) read(answer);
  };
  const ask = (machine: MachineHandle, question: string): Decoded =>
    read(addon.machineAsk(machine, encode(question).bytes));

  return {
    machineCreate: (spec: MachineSpec, onEvent) => {
      const { bytes, descriptors } = encodeForNow(spec);
      return addon.machineCreate(bytes, descriptors, (event) => onEvent(eventOf(event)));
    },
    machineBoot: (machine, boot: BootSpec, paused) =>
      carryOut(machine, 'boot', { spec: { ...boot, ...(paused && { paused }) } }),
    machinePause: (machine) => carryOut(machine, 'pause'),
    machineResume: (machine) => carryOut(machine, 'resume'),
    machineDestroy: (machine, timeoutMs) => carryOut(machine, 'destroy', { timeoutMs }),
    machineCallOff: (machine) => addon.machineCallOff(machine),
    machineKeepAlive: (machine, alive) => addon.machineKeepAlive(machine, alive),
    machinePlug: (machine, spec) => carryOut(machine, 'plug', { spec }),
    machineRequestUnplug: (machine, device) => carryOut(machine, 'request-unplug', { device }),
    machineFinishUnplug: (machine, device, force) => carryOut(machine, 'finish-unplug', { device, force }),
    machineAddMemory: (machine, size) => carryOut(machine, 'add-memory', { size }),
    machinePlugVcpus: (machine, vcpus) => carryOut(machine, 'plug-vcpus', { vcpus }),
    machineRequestVcpuUnplug: (machine, first) => carryOut(machine, 'request-vcpu-unplug', { first }),
    machinePowerButton: (machine) => carryOut(machine, 'power-button'),
    machineNmi: (machine) => carryOut(machine, 'nmi'),
    machineSetVmGeneration: (machine, id) => carryOut(machine, 'set-generation', { id }),
    machineOperate: (machine, device, operation, operands) =>
      carryOut(machine, 'operate', { device, operation, arguments: operands }),

    machineCounters: (machine) => countersOf(ask(machine, 'counters')),
    machineStatus: (machine) => ask(machine, 'status') as Record<string, Record<string, number>>,
    machineVcpuStatistics: (machine) => vcpusOf(ask(machine, 'vcpus')),
    machineFigures: (machine) => {
      addon.machineKeep(machine, [encode('counters').bytes, encode('vcpus').bytes]);
      return {
        get counters() {
          return countersOf(read(addon.machineKept(machine, 0)));
        },
        get vcpus() {
          return vcpusOf(read(addon.machineKept(machine, 1)));
        },
      };
    },
    machineDebugPort: (machine) =>
      ask(machine, 'post-codes') as unknown as ReturnType<MachineCalls['machineDebugPort']>,

    machineDebugStop: (machine) => carryOut(machine, 'debug-stop'),
    machineDebugResume: (machine, orders, { hardware, software }) =>
      carryOut(machine, 'debug-resume', { orders, hardware: hardware, software }),
    machineDebugRegisters: async (machine, vcpu, set) =>
      (await call(machine, 'debug-registers', { vcpu, set })) as Uint8Array,
    machineDebugSetRegisters: (machine, vcpu, set, bytes) =>
      carryOut(machine, 'debug-set-registers', { vcpu, set, bytes }),
    machineDebugTranslate: async (machine, vcpu, address) => {
      const physical = await call(machine, 'debug-translate', { vcpu, address });
      return physical === null ? null : BigInt(physical as number | bigint);
    },
    machineDebugRead: async (machine, address, length) =>
      (await call(machine, 'debug-read', { address, length })) as Uint8Array | null,
    machineDebugWrite: async (machine, address, bytes) =>
      (await call(machine, 'debug-write', { address, bytes })) as boolean,
  };
}

interface RawVcpu {
  readonly index: number;
  readonly thread: number;
  readonly exits: Numbers;
  readonly hypervisor: Numbers;
}

/** `{"value": null}`, which most commands are answered with: a start need not learn to decode for it. */
const NOTHING = [0xa1, 0x65, 0x76, 0x61, 0x6c, 0x75, 0x65, 0xf6];

function saysNothing(answer: Uint8Array): boolean {
  for (let i = 0; i < NOTHING.length; i++) if (answer[i] !== NOTHING[i]) return false;
  return answer.length === NOTHING.length;
}

interface Answer {
  readonly value?: Decoded;
  readonly error?: { readonly code: string; readonly message: string };
}

/** @throws Error with `code` */
function read(answer: Uint8Array): Decoded {
  const { value, error } = decode(answer) as Answer;
  if (error) throw Object.assign(new Error(error.message), { code: error.code });
  return value as Decoded;
}

function eventOf(bytes: Uint8Array): MachineEvent {
  const event = decode(bytes) as { [name: string]: Decoded };
  if (event.type === 'debug-stop') event.address = BigInt(event.address as number | bigint);
  return event as unknown as MachineEvent;
}

function countersOf(answer: Decoded): Record<string, Record<string, bigint>> {
  const devices = answer as Record<string, Numbers>;
  for (const id of Object.keys(devices)) devices[id] = bigints(devices[id] as Numbers);
  return devices as Record<string, Record<string, bigint>>;
}

function vcpusOf(answer: Decoded): VcpuStatistics[] {
  return (answer as unknown as RawVcpu[]).map(({ index, thread, exits, hypervisor }) => ({
    index,
    thread,
    exits: bigints(exits),
    hypervisor: bigints(hypervisor),
  }));
}

function bigints(values: Numbers): Record<string, bigint> {
  const exact: Record<string, bigint> = {};
  for (const name of Object.keys(values)) exact[name] = BigInt(values[name] as number | bigint);
  return exact;
}
