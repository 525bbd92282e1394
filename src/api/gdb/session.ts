/**
 * One debugger and what it asks for ("Debugging with GDB", E.2 "Packets"). The guest stops as a whole, and every vCPU
 * is a thread: vCPU 0 is thread 1. Connecting stops the guest, detaching lets it run.
 */
import type { DebugStop } from '../../native.ts';
import type { DebugOrders } from '../../vmm/debugged.ts';
import type { Vmm } from '../../vmm/vmm.ts';
import type { Breakpoints, BreakpointType } from './breakpoints.ts';
import { readVirtual, type View, writeVirtual } from './guestMemory.ts';
import { escapeBinary, fromHex, MAX_PACKET, toHex } from './packets.ts';
import {
  type RegisterBytes,
  readRegister,
  registerSets,
  registers,
  targetDescription,
  writeRegister,
} from './processor.ts';

/** The part of the internal API that a debugger uses. */
export type DebuggedVmm = Pick<Vmm, 'debugStop' | 'debugResume' | 'debugAccess' | 'info' | 'quit'>;

/** `error` answers: errno values, as is the custom. */
const NO_SUCH = 'E03';
const BAD_ADDRESS = 'E0e';
const INVALID = 'E16';
const BUSY = 'E10';

const BREAKPOINT_TYPES: readonly BreakpointType[] = ['software', 'execute', 'write', 'access', 'access'];
/** Signals by the protocol's numbers. */
const SIGINT = '02';
const SIGTRAP = '05';

const STOP_REASONS: Readonly<Record<DebugStop['cause'], (address: string) => string>> = {
  step: () => '',
  breakpoint: () => 'swbreak:;',
  'hardware-breakpoint': () => 'hwbreak:;',
  'write-watchpoint': (address) => `watch:${address};`,
  'access-watchpoint': (address) => `awatch:${address};`,
};

const FEATURES = [
  `PacketSize=${MAX_PACKET.toString(16)}`,
  'QStartNoAckMode+',
  'qXfer:features:read+',
  'vContSupported+',
  'swbreak+',
  'hwbreak+',
];

/** What becomes of the connection after an answer. */
export type Outcome =
  | { readonly answer: string }
  /** It comes when the guest stops. */
  | 'later'
  | { readonly answer: string | undefined; readonly close: true };

type Handler = (argument: string) => Outcome | Promise<Outcome>;

export class Session {
  readonly #vmm: DebuggedVmm;
  readonly #breakpoints: Breakpoints;
  /** The stop reason that the debugger is told (packet `?`). */
  #stopReply = `T${SIGTRAP}thread:1;`;
  /** The guest runs, and the debugger waits to be told that it has stopped. */
  #running = false;
  #goesOn = false;
  /** vCPUs that the debugger looks at, and lets go on by packets that name none. */
  #looksAt = 0;
  #continues: number | undefined;
  /**
   * Watchpoints that vCPUs met while another one's stop was being told: they have made the access, and will not make it
   * again. A vCPU that met a breakpoint is still before it, and meets it again.
   */
  readonly #untold = new Map<number, DebugStop>();
  #description: string | undefined;

  /** @param breakpoints those that an earlier debugger could not be freed of go at the beginning */
  constructor(vmm: DebuggedVmm, breakpoints: Breakpoints) {
    this.#vmm = vmm;
    this.#breakpoints = breakpoints;
  }

  get running(): boolean {
    return this.#running;
  }

  /** The debugger has vanished, or not begun, and did not stop the guest, which is to go on when it does stop. */
  get goesOn(): boolean {
    return this.#goesOn;
  }

  /** @throws VmmError if there is no machine, or it does not stop */
  async begin(): Promise<void> {
    this.#goesOn = this.#vmm.info().state === 'Running';
    await this.#vmm.debugStop();
    this.#goesOn = false;
    await this.#vmm.debugAccess((machine) => this.#breakpoints.removeAll(machine));
  }

  /** The answer to a packet. Never rejects. */
  async answer(text: string): Promise<Outcome> {
    try {
      return await this.#handle(text);
    } catch {
      // The machine is gone, or runs.
      return { answer: BUSY };
    }
  }

  /** Stops a guest that runs. @returns what is told, if anything */
  async interrupt(): Promise<string | undefined> {
    if (!this.#running) return undefined;
    await this.#vmm.debugStop();
    return this.#stop(`T${SIGINT}thread:1;`, 0);
  }

  /** A vCPU has met what was asked for. @returns what is told, if anything */
  async stopped(stop: DebugStop): Promise<string | undefined> {
    await this.#vmm.debugStop();
    const reply = this.#tell(stop);
    const isWatchpoint = stop.cause === 'write-watchpoint' || stop.cause === 'access-watchpoint';
    if (reply === undefined && isWatchpoint) this.#untold.set(stop.vcpu, stop);
    return reply;
  }

  /** A new machine has begun, and is stopped. */
  async restarted(): Promise<string | undefined> {
    this.#untold.clear();
    await this.#vmm.debugAccess((machine) => this.#breakpoints.renew(machine, this.#view()));
    return this.#stop(`T${SIGTRAP}thread:1;`, 0);
  }

  /**
   * The connection was lost without a detach. The guest goes on if it ran, and has nothing of the debugger's in it.
   * @throws VmmError if there is no machine, or it does not stop: it can be tried again
   */
  async vanish(): Promise<void> {
    this.#goesOn ||= this.#running;
    this.#running = false;
    await this.#vmm.debugStop();
    await this.#vmm.debugAccess((machine) => this.#breakpoints.removeAll(machine));
    if (this.#goesOn) await this.#vmm.debugResume(this.#breakpoints.traps());
    this.#goesOn = false;
  }

  #tell(stop: DebugStop): string | undefined {
    const { vcpu, cause, address } = this.#breakpoints.asAskedFor(stop);
    return this.#stop(`T${SIGTRAP}thread:${hex(vcpu + 1)};${STOP_REASONS[cause](hex(address))}`, vcpu);
  }

  /** Each stop is told once. */
  #stop(reply: string, vcpu: number): string | undefined {
    if (!this.#running) return undefined;
    this.#running = false;
    this.#stopReply = reply;
    this.#looksAt = vcpu;
    this.#continues = undefined;
    return reply;
  }

  #handle(text: string): Outcome | Promise<Outcome> {
    const word = words.find((one) => text.startsWith(one.prefix));
    if (word) return word.handler.call(this, text.slice(word.prefix.length));
    return { answer: '' };
  }

  // Each of these is named in `words`.

  stopReason(): Outcome {
    return { answer: this.#stopReply };
  }

  supported(): Outcome {
    return { answer: FEATURES.join(';') };
  }

  features(argument: string): Outcome {
    const [, name, from = '', size = ''] = /^([^:]*):([0-9a-f]+),([0-9a-f]+)$/i.exec(argument) ?? [];
    if (name !== 'target.xml') return { answer: 'E00' };
    this.#description ??= targetDescription();
    const offset = Number.parseInt(from, 16);
    const length = Math.min(Number.parseInt(size, 16), MAX_PACKET / 2);
    const part = this.#description.slice(offset, offset + length);
    const more = offset + length < this.#description.length ? 'm' : 'l';
    return { answer: more + escapeBinary(part) };
  }

  threads(): Outcome {
    return { answer: `m${Array.from({ length: this.#vcpus() }, (_, i) => hex(i + 1)).join(',')}` };
  }

  currentThread(): Outcome {
    return { answer: `QC${hex(this.#looksAt + 1)}` };
  }

  threadName(argument: string): Outcome {
    const vcpu = this.#vcpuOf(argument);
    if (vcpu === undefined) return { answer: NO_SUCH };
    return { answer: toHex(new TextEncoder().encode(`vCPU ${vcpu}`)) };
  }

  isThreadAlive(argument: string): Outcome {
    return { answer: this.#vcpuOf(argument) === undefined ? NO_SUCH : 'OK' };
  }

  chooseToLookAt(argument: string): Outcome {
    const vcpu = this.#anyVcpuOf(argument);
    if (vcpu === undefined) return { answer: NO_SUCH };
    this.#looksAt = vcpu === 'all' ? 0 : vcpu;
    return { answer: 'OK' };
  }

  chooseToContinue(argument: string): Outcome {
    const vcpu = this.#anyVcpuOf(argument);
    if (vcpu === undefined) return { answer: NO_SUCH };
    this.#continues = vcpu === 'all' || argument === '0' ? undefined : vcpu;
    return { answer: 'OK' };
  }

  async readAll(): Promise<Outcome> {
    const all = await this.#registers();
    return { answer: registers.map((register) => toHex(readRegister(register, all))).join('') };
  }

  async writeAll(argument: string): Promise<Outcome> {
    const bytes = fromHex(argument);
    const size = registers.reduce((sum, register) => sum + register.size, 0);
    if (bytes?.length !== size) return { answer: INVALID };
    return this.#changeRegisters((all) => {
      let offset = 0;
      for (const register of registers) {
        writeRegister(register, all, bytes.subarray(offset, offset + register.size));
        offset += register.size;
      }
    });
  }

  async readOne(argument: string): Promise<Outcome> {
    const register = registers[parseHex(argument) ?? -1];
    if (register === undefined) return { answer: NO_SUCH };
    return { answer: toHex(readRegister(register, await this.#registers())) };
  }

  async writeOne(argument: string): Promise<Outcome> {
    const [number = '', value = ''] = argument.split('=');
    const register = registers[parseHex(number) ?? -1];
    const bytes = fromHex(value);
    if (register === undefined || bytes?.length !== register.size) return { answer: INVALID };
    return this.#changeRegisters((all) => writeRegister(register, all, bytes));
  }

  async readMemory(argument: string): Promise<Outcome> {
    const place = parsePlace(argument);
    if (place === undefined) return { answer: INVALID };
    const { address } = place;
    const length = Math.min(place.length, MAX_PACKET / 2);
    const bytes = await this.#vmm.debugAccess((machine) =>
      readVirtual(machine, this.#view(), address, length),
    );
    if (bytes.length === 0 && length > 0) return { answer: BAD_ADDRESS };
    this.#breakpoints.hide(address, bytes);
    return { answer: toHex(bytes) };
  }

  async writeMemory(argument: string): Promise<Outcome> {
    const [head = '', data = ''] = split(argument, ':');
    return this.#write(head, fromHex(data));
  }

  async writeBinary(argument: string): Promise<Outcome> {
    const [head = '', data = ''] = split(argument, ':');
    return this.#write(head, new Uint8Array(Buffer.from(data, 'latin1')));
  }

  insertBreakpoint(argument: string): Promise<Outcome> {
    return this.#changeBreakpoint(argument, true);
  }

  removeBreakpoint(argument: string): Promise<Outcome> {
    return this.#changeBreakpoint(argument, false);
  }

  continueActions(): Outcome {
    return { answer: 'vCont;c;C;s;S' };
  }

  /**
   * `vCont;action[:thread];...`: of the actions that fit a thread the first counts. Those without one stay where they
   * are.
   */
  async continueByActions(argument: string): Promise<Outcome> {
    const orders: DebugOrders[number][] = Array(this.#vcpus()).fill('hold');
    for (const action of argument.split(';').reverse()) {
      const [, letter = '', thread] = /^([csCS])(?:[0-9a-f]{2})?(?::(.+))?$/.exec(action) ?? [];
      const order = letter === '' ? undefined : letter.toLowerCase() === 's' ? 'step' : 'run';
      const vcpu = thread === undefined ? 'all' : this.#anyVcpuOf(thread);
      if (order === undefined || vcpu === undefined) return { answer: INVALID };
      if (vcpu === 'all') orders.fill(order);
      else orders[vcpu] = order;
    }
    return this.#go(orders);
  }

  continueAll(argument: string): Promise<Outcome> {
    return this.#goFrom('run', argument);
  }

  stepOne(argument: string): Promise<Outcome> {
    return this.#goFrom('step', argument);
  }

  /** The same with a signal, of which a machine knows nothing: `SS[;address]`. */
  continueWithSignal(argument: string): Promise<Outcome> {
    return this.#goFrom('run', split(argument, ';')[1] ?? '');
  }

  stepWithSignal(argument: string): Promise<Outcome> {
    return this.#goFrom('step', split(argument, ';')[1] ?? '');
  }

  async detach(): Promise<Outcome> {
    await this.#vmm.debugAccess((machine) => this.#breakpoints.removeAll(machine));
    await this.#vmm.debugResume(this.#breakpoints.traps());
    return { answer: 'OK', close: true };
  }

  kill(): Outcome {
    return this.#quit(undefined);
  }

  /** `vKill`, which is answered. */
  killPolitely(): Outcome {
    return this.#quit('OK');
  }

  /** The debugger may ask anything, and is told in this way what is not there. */
  nothing(): Outcome {
    return { answer: '' };
  }

  ok(): Outcome {
    return { answer: 'OK' };
  }

  endOfThreads(): Outcome {
    return { answer: 'l' };
  }

  /** A process that was there before the debugger: which then detaches at its end, and does not kill. */
  attached(): Outcome {
    return { answer: '1' };
  }

  #quit(answer: string | undefined): Outcome {
    void this.#vmm.quit().catch(() => {});
    return { answer, close: true };
  }

  async #write(head: string, bytes: Uint8Array | undefined): Promise<Outcome> {
    const place = parsePlace(head);
    if (place === undefined || bytes?.length !== place.length) return { answer: INVALID };
    const done = await this.#vmm.debugAccess((machine) =>
      this.#breakpoints.writeBeneath(place.address, bytes, (written) =>
        writeVirtual(machine, this.#view(), place.address, written),
      ),
    );
    return { answer: done ? 'OK' : BAD_ADDRESS };
  }

  async #changeBreakpoint(argument: string, insert: boolean): Promise<Outcome> {
    const [, digit = '', place = ''] = /^([0-4]),([0-9a-f]+,[0-9a-f]+)$/i.exec(argument) ?? [];
    const type = BREAKPOINT_TYPES[Number.parseInt(digit, 10)];
    const parsed = parsePlace(place);
    if (type === undefined || parsed === undefined) return { answer: INVALID };
    if (this.#running) return { answer: BUSY };
    const { address, length } = parsed;
    const done = await this.#vmm.debugAccess((machine) =>
      insert
        ? this.#breakpoints.insert(machine, this.#view(), type, address, length)
        : this.#breakpoints.remove(machine, type, address),
    );
    return { answer: done ? 'OK' : BAD_ADDRESS };
  }

  async #goFrom(order: 'run' | 'step', address: string): Promise<Outcome> {
    const from = address === '' ? undefined : parseAddress(address);
    if (address !== '' && from === undefined) return { answer: INVALID };
    if (from !== undefined) await this.#changeRegisters((all) => setInstructionPointer(all, from));
    const chosen = this.#continues ?? (order === 'step' ? this.#looksAt : undefined);
    const orders: DebugOrders[number][] = Array(this.#vcpus()).fill(
      this.#continues === undefined ? 'run' : 'hold',
    );
    if (chosen !== undefined) orders[chosen] = order;
    return this.#go(orders);
  }

  async #go(orders: DebugOrders): Promise<Outcome> {
    if (this.#running) return { answer: BUSY };
    const untold = this.#takeUntold(orders);
    if (untold === undefined) await this.#vmm.debugResume(this.#breakpoints.traps(), orders);
    this.#running = true;
    const answer = untold && this.#tell(untold);
    return answer === undefined ? 'later' : { answer };
  }

  /** Of one of the vCPUs that are to go on. */
  #takeUntold(orders: DebugOrders): DebugStop | undefined {
    for (const [vcpu, stop] of this.#untold) {
      if (orders[vcpu] === 'hold') continue;
      this.#untold.delete(vcpu);
      if (this.#breakpoints.watches(stop.address)) return stop;
    }
    return undefined;
  }

  #registers(): Promise<RegisterBytes> {
    return this.#vmm.debugAccess(async ({ native, handle }) => {
      const read = (set: (typeof registerSets)[number]) =>
        native.machineDebugRegisters(handle, this.#looksAt, set);
      return { general: await read('general'), special: await read('special'), vector: await read('vector') };
    });
  }

  async #changeRegisters(change: (all: RegisterBytes) => void): Promise<Outcome> {
    const before = await this.#registers();
    const after: RegisterBytes = {
      general: before.general.slice(),
      special: before.special.slice(),
      vector: before.vector.slice(),
    };
    change(after);
    await this.#vmm.debugAccess(async ({ native, handle }) => {
      for (const set of registerSets) {
        if (toHex(before[set]) === toHex(after[set])) continue;
        await native.machineDebugSetRegisters(handle, this.#looksAt, set, after[set]);
      }
    });
    return { answer: 'OK' };
  }

  #view(): View {
    return { vcpu: this.#looksAt, vcpus: this.#vcpus() };
  }

  #vcpus(): number {
    return this.#vmm.info().config.cpus.boot_vcpus;
  }

  /** Of a thread's number; undefined if there is none. */
  #vcpuOf(text: string): number | undefined {
    const thread = parseHex(text);
    return thread !== undefined && thread >= 1 && thread <= this.#vcpus() ? thread - 1 : undefined;
  }

  /** -1 stands for all threads, 0 for any. */
  #anyVcpuOf(text: string): number | 'all' | undefined {
    if (text === '-1') return 'all';
    return text === '0' ? this.#looksAt : this.#vcpuOf(text);
  }
}

interface Word {
  readonly prefix: string;
  readonly handler: Handler;
}

function word(prefix: string, handler: Handler): Word {
  return { prefix, handler };
}

/** What packets begin with; the first that fits counts. */
const words: readonly Word[] = (() => {
  const { prototype: session } = Session;
  return [
    word('?', session.stopReason),
    word('qSupported', session.supported),
    word('qXfer:features:read:', session.features),
    word('qfThreadInfo', session.threads),
    word('qsThreadInfo', session.endOfThreads),
    word('qThreadExtraInfo,', session.threadName),
    word('qAttached', session.attached),
    word('qSymbol:', session.ok),
    word('qCRC:', session.nothing),
    word('qC', session.currentThread),
    word('q', session.nothing),
    word('QStartNoAckMode', session.ok),
    word('Q', session.nothing),
    word('vCont?', session.continueActions),
    word('vCont;', session.continueByActions),
    word('vKill;', session.killPolitely),
    word('v', session.nothing),
    word('T', session.isThreadAlive),
    word('Hg', session.chooseToLookAt),
    word('Hc', session.chooseToContinue),
    word('g', session.readAll),
    word('G', session.writeAll),
    word('p', session.readOne),
    word('P', session.writeOne),
    word('m', session.readMemory),
    word('M', session.writeMemory),
    word('X', session.writeBinary),
    word('Z', session.insertBreakpoint),
    word('z', session.removeBreakpoint),
    word('c', session.continueAll),
    word('s', session.stepOne),
    word('C', session.continueWithSignal),
    word('S', session.stepWithSignal),
    word('D', session.detach),
    word('k', session.kill),
  ];
})();

function hex(value: number | bigint): string {
  return value.toString(16);
}

function parseHex(text: string): number | undefined {
  return /^[0-9a-f]{1,8}$/i.test(text) ? Number.parseInt(text, 16) : undefined;
}

function parseAddress(text: string): bigint | undefined {
  return /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;
}

/** `address,length`. */
function parsePlace(text: string): { readonly address: bigint; readonly length: number } | undefined {
  const [first = '', second = ''] = split(text, ',');
  const address = parseAddress(first);
  const length = parseHex(second);
  return address === undefined || length === undefined ? undefined : { address, length };
}

/** At the first separator. */
function split(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function setInstructionPointer(all: RegisterBytes, address: bigint): void {
  const register = registers.find(({ name }) => name === 'rip');
  if (register === undefined) return;
  const value = new Uint8Array(register.size);
  new DataView(value.buffer).setBigUint64(0, address, true);
  writeRegister(register, all, value);
}
