/** The breakpoints and watchpoints that a debugger has set. */
import type { DebugStop, HardwareBreakpoint } from '../../native.ts';
import type { DebugTraps, StoppedMachine } from '../../vmm/debugged.ts';
import { readVirtual, translate, type View } from './guestMemory.ts';
import { BREAKPOINT_INSTRUCTION, MAX_HARDWARE, WATCH_LENGTHS } from './processor.ts';

/** More than any person sets. */
const MAX_SOFTWARE = 1024;

/** The numbers of the `Z` packet. A processor cannot watch reads alone. */
export type BreakpointType = 'software' | HardwareBreakpoint['kind'];

interface Inserted {
  /** Guest-physical: the page tables may be others when it is removed. */
  readonly physical: bigint;
  original: Uint8Array;
}

export class Breakpoints {
  readonly #software = new Map<bigint, Inserted>();
  #hardware: HardwareBreakpoint[] = [];
  /**
   * Of the kind `software`, at addresses that lead to no RAM yet, such as those of a kernel that has no page tables so
   * far. The processor compares addresses alone, so one of its breakpoints does as well.
   */
  readonly #standIns = new Set<bigint>();

  /** @returns false if it cannot be. Inserting what is there succeeds */
  async insert(
    machine: StoppedMachine,
    view: View,
    type: BreakpointType,
    address: bigint,
    length: number,
  ): Promise<boolean> {
    return type === 'software'
      ? this.#insertSoftware(machine, view, address)
      : this.#insertHardware({ kind: type, address, length });
  }

  /** @returns false if what was there before could not be put back. Removing what is not there succeeds */
  async remove(machine: StoppedMachine, type: BreakpointType, address: bigint): Promise<boolean> {
    if (type === 'software') return this.#removeSoftware(machine, address);
    this.#hardware = this.#hardware.filter((one) => one.kind !== type || one.address !== address);
    return true;
  }

  async removeAll(machine: StoppedMachine): Promise<void> {
    for (const address of [...this.#software.keys()]) await this.#removeSoftware(machine, address);
    this.#hardware = [];
    this.#standIns.clear();
  }

  /** Another machine's memory has none of those that are instructions. What cannot be inserted there is given up. */
  async renew(machine: StoppedMachine, view: View): Promise<void> {
    const addresses = [...this.#software.keys(), ...this.#standIns];
    this.#software.clear();
    this.#standIns.clear();
    for (const address of addresses) await this.#insertSoftware(machine, view, address);
  }

  /** Another machine has none of them. */
  forgetAll(): void {
    this.#software.clear();
    this.#hardware = [];
    this.#standIns.clear();
  }

  traps(): DebugTraps {
    const standIns = [...this.#standIns].map((address) => executeAt(address));
    return { hardware: [...this.#hardware, ...standIns], software: [...this.#software.keys()] };
  }

  /** What a stop is in terms of what was asked for. */
  asAskedFor(stop: DebugStop): DebugStop {
    if (stop.cause !== 'hardware-breakpoint' || !this.#standIns.has(stop.address)) return stop;
    return { ...stop, cause: 'breakpoint' };
  }

  /** Whether that address is watched. */
  watches(address: bigint): boolean {
    return this.#hardware.some((one) => one.kind !== 'execute' && one.address === address);
  }

  /** Puts into bytes that were read what the guest had there. */
  hide(address: bigint, bytes: Uint8Array): void {
    for (const [place, { original }] of this.#software) {
      const offset = place - address;
      if (offset >= 0n && offset < BigInt(bytes.length)) bytes.set(original, Number(offset));
    }
  }

  /**
   * Writes what the debugger means to be in memory: what is inserted stays.
   * @param write has bytes written at `address`. @returns false if they were not
   */
  async writeBeneath(
    address: bigint,
    bytes: Uint8Array,
    write: (bytes: Uint8Array) => Promise<boolean>,
  ): Promise<boolean> {
    const covered = [...this.#software].flatMap(([place, inserted]) => {
      const offset = place - address;
      return offset >= 0n && offset < BigInt(bytes.length) ? [{ inserted, offset: Number(offset) }] : [];
    });
    const written = bytes.slice();
    for (const { offset } of covered) written.set(BREAKPOINT_INSTRUCTION, offset);
    if (!(await write(written))) return false;
    for (const { inserted, offset } of covered) inserted.original = bytes.slice(offset, offset + 1);
    return true;
  }

  async #insertSoftware(machine: StoppedMachine, view: View, address: bigint): Promise<boolean> {
    if (this.#software.has(address) || this.#standIns.has(address)) return true;
    if (this.#software.size >= MAX_SOFTWARE) return false;
    if (await this.#insertInstruction(machine, view, address)) return true;
    if (!this.#hasFreeHardware()) return false;
    this.#standIns.add(address);
    return true;
  }

  /** @returns false if there is no RAM */
  async #insertInstruction(machine: StoppedMachine, view: View, address: bigint): Promise<boolean> {
    const physical = await translate(machine, view, address);
    const original = await readVirtual(machine, view, address, BREAKPOINT_INSTRUCTION.length);
    if (physical === null || original.length < BREAKPOINT_INSTRUCTION.length) return false;
    const written = await machine.native.machineDebugWrite(machine.handle, physical, BREAKPOINT_INSTRUCTION);
    if (written) this.#software.set(address, { physical, original });
    return written;
  }

  async #removeSoftware({ native, handle }: StoppedMachine, address: bigint): Promise<boolean> {
    if (this.#standIns.delete(address)) return true;
    const inserted = this.#software.get(address);
    if (inserted === undefined) return true;
    this.#software.delete(address);
    const { physical, original } = inserted;
    // A guest that has written something else there since means that.
    const now = await native.machineDebugRead(handle, physical, original.length);
    if (now?.[0] !== BREAKPOINT_INSTRUCTION[0]) return true;
    return native.machineDebugWrite(handle, physical, original);
  }

  #insertHardware(breakpoint: HardwareBreakpoint): boolean {
    const { kind, address, length } = breakpoint;
    if (!WATCH_LENGTHS.includes(length) || address % BigInt(length) !== 0n) return false;
    if (this.#hardware.some((one) => one.kind === kind && one.address === address)) return true;
    if (!this.#hasFreeHardware()) return false;
    this.#hardware.push(kind === 'execute' ? executeAt(address) : breakpoint);
    return true;
  }

  #hasFreeHardware(): boolean {
    return this.#hardware.length + this.#standIns.size < MAX_HARDWARE;
  }
}

function executeAt(address: bigint): HardwareBreakpoint {
  return { kind: 'execute', address, length: 1 };
}
