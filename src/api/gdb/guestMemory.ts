/** Guest memory by the addresses that the guest's code uses, as a vCPU's page tables have them now. */

import { PAGE_SIZE } from '../../config/units.ts';
import type { StoppedMachine } from '../../vmm/debugged.ts';
import { walkPageTables } from './processor.ts';

/** Also the most that one call of the core reads. */
const PAGE = BigInt(PAGE_SIZE);
const ADDRESS_BITS = 64;
const UPPER_HALF = 1n << 63n;

/** Whose page tables count. */
export interface View {
  readonly vcpu: number;
  /** How many there are. */
  readonly vcpus: number;
}

interface Piece {
  /** Guest-physical. */
  readonly physical: bigint;
  readonly offset: number;
  readonly length: number;
}

/** @returns fewer bytes than asked for where an address leads nowhere, or not to RAM */
export async function readVirtual(
  machine: StoppedMachine,
  view: View,
  address: bigint,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let end = 0;
  for await (const { physical, offset, length: size } of pieces(machine, view, address, length)) {
    const read = await machine.native.machineDebugRead(machine.handle, physical, size);
    if (read === null) break;
    bytes.set(read, offset);
    end = offset + size;
  }
  return bytes.subarray(0, end);
}

/** @returns false, with nothing written, unless every address leads to somewhere; false if one of them is no RAM */
export async function writeVirtual(
  machine: StoppedMachine,
  view: View,
  address: bigint,
  bytes: Uint8Array,
): Promise<boolean> {
  if ((await reach(machine, view, address, bytes.length)) < bytes.length) return false;
  for await (const { physical, offset, length } of pieces(machine, view, address, bytes.length)) {
    const part = bytes.subarray(offset, offset + length);
    if (!(await machine.native.machineDebugWrite(machine.handle, physical, part))) return false;
  }
  return true;
}

/** How many bytes lead to somewhere without a gap. */
async function reach(machine: StoppedMachine, view: View, address: bigint, length: number): Promise<number> {
  let end = 0;
  for await (const piece of pieces(machine, view, address, length)) end = piece.offset + piece.length;
  return end;
}

/**
 * Where an address leads; null if nowhere. A vCPU that runs a user's program may not have the kernel's memory in its
 * page tables (page table isolation); for the kernel's half of all addresses any other's do as well.
 */
export async function translate(
  machine: StoppedMachine,
  { vcpu, vcpus }: View,
  address: bigint,
): Promise<bigint | null> {
  const own = await translateBy(machine, vcpu, address);
  if (own !== null || address < UPPER_HALF) return own;
  for (let other = 0; other < vcpus; other++) {
    const physical = other === vcpu ? null : await translateBy(machine, other, address);
    if (physical !== null) return physical;
  }
  return null;
}

async function translateBy(machine: StoppedMachine, vcpu: number, address: bigint): Promise<bigint | null> {
  const { native, handle } = machine;
  const physical = await native.machineDebugTranslate(handle, vcpu, address);
  return physical ?? walkPageTables(machine, vcpu, address);
}

/** Page by page, up to the first that leads nowhere. */
async function* pieces(
  machine: StoppedMachine,
  view: View,
  address: bigint,
  length: number,
): AsyncGenerator<Piece> {
  for (let offset = 0; offset < length; ) {
    const at = BigInt.asUintN(ADDRESS_BITS, address + BigInt(offset));
    const physical = await translate(machine, view, at);
    if (physical === null) return;
    const size = Math.min(length - offset, Number(PAGE - (at % PAGE)));
    yield { physical, offset, length: size };
    offset += size;
  }
}
