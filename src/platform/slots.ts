/**
 * PCI device numbers and BAR addresses of one segment, which has one bus. Part of the start path: `#` members would
 * cost several times as much there as these.
 */

import { PCI_SLOTS } from '../config/limits.ts';
import { PlatformError } from './platformError.ts';

const HOST_BRIDGE_SLOT = 0;

/** A bus's device numbers. */
export class SlotAllocator {
  /** Bit by device number. */
  private taken: number;

  /** @param hasBridge number 0 is the host bridge's */
  constructor(hasBridge = true) {
    this.taken = hasBridge ? 1 << HOST_BRIDGE_SLOT : 0;
  }

  /** @throws PlatformError `ERR_TSVMM_PCI_SLOT` if `slot` is taken, reserved or no device number. */
  reserve(slot: number): void {
    if (slot >= PCI_SLOTS) {
      throw new PlatformError(
        'ERR_TSVMM_PCI_SLOT',
        `PCI device number ${slot} is out of range: the last one is ${PCI_SLOTS - 1}`,
      );
    }
    if ((this.taken & (1 << slot)) !== 0) {
      throw new PlatformError('ERR_TSVMM_PCI_SLOT', `PCI device number ${slot} is already taken`);
    }
    this.taken |= 1 << slot;
  }

  isFree(slot: number): boolean {
    return (this.taken & (1 << slot)) === 0;
  }

  /** What is taken now, for `rewind`. */
  mark(): number {
    return this.taken;
  }

  rewind(mark: number): void {
    this.taken = mark;
  }

  /** Of a device that is gone. */
  release(slot: number): void {
    this.taken &= ~(1 << slot);
  }

  /** Takes the lowest free one. @throws PlatformError `ERR_TSVMM_PCI_SLOT` if there is none. */
  allocate(): number {
    const free = ~this.taken;
    if (free === 0) {
      throw new PlatformError('ERR_TSVMM_PCI_SLOT', `All ${PCI_SLOTS} PCI device numbers are taken`);
    }
    const slot = 31 - Math.clz32(free & -free);
    this.taken |= 1 << slot;
    return slot;
  }
}

/** Addresses up to and without `end`. */
interface Gap {
  readonly start: number;
  readonly end: number;
}

/** Hands out a window's addresses from the top downwards. */
export class BarAllocator {
  /** From the top downwards, none adjacent to another. */
  private readonly free: Gap[];

  constructor({ start, size }: { readonly start: number; readonly size: number }) {
    this.free = size > 0 ? [{ start, end: start + size }] : [];
  }

  /**
   * The highest free address for `size` bytes, a power of two, naturally aligned (PCI 3.0 §6.2.5.1).
   * @throws PlatformError `ERR_TSVMM_PCI_BAR` if the window is full.
   */
  allocate(size: number): number {
    const { free } = this;
    for (let i = 0; i < free.length; i++) {
      const { start, end } = free[i] as Gap;
      const top = end - size;
      const address = top - (top % size);
      if (top < start || address < start) continue;
      const rest: Gap[] = [];
      if (address + size < end) rest.push({ start: address + size, end });
      if (start < address) rest.push({ start, end: address });
      free.splice(i, 1, ...rest);
      return address;
    }
    throw new PlatformError('ERR_TSVMM_PCI_BAR', `No room is left for a device's ${size} bytes of registers`);
  }

  /** What `allocate` returned for `size`. */
  release(address: number, size: number): void {
    const { free } = this;
    let i = 0;
    while (i < free.length && (free[i] as Gap).start > address) i++;
    let [start, end] = [address, address + size];
    let joined = 0;
    const below = free[i];
    if (below?.end === start) {
      start = below.start;
      joined++;
    }
    const above = free[i - 1];
    if (above?.start === end) {
      end = above.end;
      joined++;
      i--;
    }
    free.splice(i, joined, { start, end });
  }
}
