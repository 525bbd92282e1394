/** 4-level and 5-level paging (SDM vol. 3 §4.5), as a vCPU's registers have it. */
import type { StoppedMachine } from '../../../vmm/debugged.ts';
import { controlRegister } from './registers.ts';

const PAGING = 1n << 31n;
const LONG_MODE_ACTIVE = 1n << 10n;
const FIVE_LEVELS = 1n << 12n;

const PRESENT = 1n;
const LARGE_PAGE = 1n << 7n;
const FRAME = 0x000f_ffff_ffff_f000n;
const ENTRY_BYTES = 8;
const PAGE_SHIFT = 12;
const INDEX_BITS = 9;
const INDEX_MASK = (1n << BigInt(INDEX_BITS)) - 1n;
const ADDRESS_BITS = 64;
/** Of the tables whose entries may be pages: 4 KiB, 2 MiB, 1 GiB. */
const HIGHEST_LARGE_LEVEL = 3;

/**
 * Where an address leads, whoever may use it. KVM_TRANSLATE asks as the kernel does, which SMAP keeps from the pages of
 * user programs.
 * @returns null if nowhere, and without paging of these kinds
 */
export async function walkPageTables(
  { native, handle }: StoppedMachine,
  vcpu: number,
  address: bigint,
): Promise<bigint | null> {
  const special = await native.machineDebugRegisters(handle, vcpu, 'special');
  const has = (name: string, bit: bigint) => (controlRegister(name, special) & bit) !== 0n;
  if (!has('cr0', PAGING) || !has('efer', LONG_MODE_ACTIVE)) return null;
  const levels = has('cr4', FIVE_LEVELS) ? 5 : 4;
  const bits = PAGE_SHIFT + levels * INDEX_BITS;
  if (BigInt.asUintN(ADDRESS_BITS, BigInt.asIntN(bits, address)) !== address) return null;
  let table = controlRegister('cr3', special) & FRAME;
  for (let level = levels; level >= 1; level--) {
    const shift = BigInt(PAGE_SHIFT + (level - 1) * INDEX_BITS);
    const place = table + ((address >> shift) & INDEX_MASK) * BigInt(ENTRY_BYTES);
    const bytes = await native.machineDebugRead(handle, place, ENTRY_BYTES);
    if (bytes === null) return null;
    const entry = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    if ((entry & PRESENT) === 0n) return null;
    table = entry & FRAME;
    if (level === 1 || (level <= HIGHEST_LARGE_LEVEL && (entry & LARGE_PAGE) !== 0n)) {
      const within = (1n << shift) - 1n;
      return (table & ~within) | (address & within);
    }
  }
  return null;
}
