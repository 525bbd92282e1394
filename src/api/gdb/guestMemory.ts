/** Guest memory by the addresses that the guest's code uses, as a vCPU's page tables have them now. */

import { PAGE_SIZE } from '../../config/units.ts';
import type { StoppedMachine } from '../../vmm/debugged.ts';

/** Also the most that one call of the core reads. */
const PAGE = BigInt(PAGE_SIZE);
const ADDRESS_BITS = 64;

interface Piece {
  /** Guest-physical. */
  readonly physical: bigint;
  readonly offset: number;
  readonly length: number;
}

/** @returns fewer bytes than asked for where an address leads nowhere, or not to RAM */
export async function readVirtual(
  machine: StoppedMachine,
  vcpu: number,
  address: bigint,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let end = 0;
  for await (const { physical, offset, length: size } of pieces(machine, vcpu, address, length)) {
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
  vcpu: number,
  address: bigint,
  bytes: Uint8Array,
): Promise<boolean> {
  if ((await reach(machine, vcpu, address, bytes.length)) < bytes.length) return false;
  for await (const { physical, offset, length } of pieces(machine, vcpu, address, bytes.length)) {
    const part = bytes.subarray(offset, offset + length);
    if (!(await machine.native.machineDebugWrite(machine.handle, physical, part))) return false;
  }
  return true;
}

/** How many bytes lead to somewhere without a gap. */
async function reach(
  machine: StoppedMachine,
  vcpu: number,
  address: bigint,
  length: number,
): Promise<number> {
  let end = 0;
  for await (const piece of pieces(machine, vcpu, address, length)) end = piece.offset + piece.length;
  return end;
}

/** Page by page, up to the first that leads nowhere. */
async function* pieces(
  { native, handle }: StoppedMachine,
  vcpu: number,
  address: bigint,
  length: number,
): AsyncGenerator<Piece> {
  for (let offset = 0; offset < length; ) {
    const at = BigInt.asUintN(ADDRESS_BITS, address + BigInt(offset));
    const physical = await native.machineDebugTranslate(handle, vcpu, at);
    if (physical === null) return;
    const size = Math.min(length - offset, Number(PAGE - (at % PAGE)));
    yield { physical, offset, length: size };
    offset += size;
  }
}
