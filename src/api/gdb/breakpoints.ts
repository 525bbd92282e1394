/** The breakpoints and watchpoints that a debugger has set. */
import type { HardwareBreakpoint } from '../../native.ts';
import type { DebugTraps, StoppedMachine } from '../../vmm/debugged.ts';
import { readVirtual } from './guestMemory.ts';

/** `int3` (SDM vol. 2, "INT n/INTO/INT3/INT1"). */
const BREAKPOINT_INSTRUCTION = new Uint8Array([0xcc]);
const MAX_HARDWARE = 4;
/** More than any person sets. */
const MAX_SOFTWARE = 1024;
const WATCH_LENGTHS = [1, 2, 4, 8];

/** The numbers of the `Z` packet. A processor cannot watch reads alone. */
export type BreakpointType = 'software' | HardwareBreakpoint['kind'];

interface Inserted {
  /** Guest-physical: the page tables may be others when it is removed. */
  readonly physical: bigint;
  readonly original: Uint8Array;
}

export class Breakpoints {
  readonly #software = new Map<bigint, Inserted>();
  #hardware: HardwareBreakpoint[] = [];

  /** @returns false if it cannot be. Inserting what is there succeeds */
  async insert(
    machine: StoppedMachine,
    vcpu: number,
    type: BreakpointType,
    address: bigint,
    length: number,
  ): Promise<boolean> {
    return type === 'software'
      ? this.#insertSoftware(machine, vcpu, address)
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
  }

  /** Another machine's memory has none of those that are instructions. */
  forgetMemory(): void {
    this.#software.clear();
  }

  /** Another machine has none of them. */
  forgetAll(): void {
    this.forgetMemory();
    this.#hardware = [];
  }

  traps(): DebugTraps {
    return { hardware: this.#hardware, software: [...this.#software.keys()] };
  }

  /** Puts into bytes that were read what the guest had there. */
  hide(address: bigint, bytes: Uint8Array): void {
    for (const [place, { original }] of this.#software) {
      const offset = place - address;
      if (offset >= 0n && offset < BigInt(bytes.length)) bytes.set(original, Number(offset));
    }
  }

  async #insertSoftware(machine: StoppedMachine, vcpu: number, address: bigint): Promise<boolean> {
    if (this.#software.has(address)) return true;
    if (this.#software.size >= MAX_SOFTWARE) return false;
    const physical = await machine.native.machineDebugTranslate(machine.handle, vcpu, address);
    const original = await readVirtual(machine, vcpu, address, BREAKPOINT_INSTRUCTION.length);
    if (physical === null || original.length < BREAKPOINT_INSTRUCTION.length) return false;
    const written = await machine.native.machineDebugWrite(machine.handle, physical, BREAKPOINT_INSTRUCTION);
    if (!written) return false;
    this.#software.set(address, { physical, original });
    return true;
  }

  async #removeSoftware({ native, handle }: StoppedMachine, address: bigint): Promise<boolean> {
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
    if (this.#hardware.length >= MAX_HARDWARE) return false;
    this.#hardware.push(kind === 'execute' ? { kind, address, length: 1 } : breakpoint);
    return true;
  }
}
