/**
 * PCI device numbers and BAR addresses on bus 0 of segment 0. Part of the start path: `#` members would cost several
 * times as much there as these.
 */
import { PlatformError } from './platformError.ts';

const SLOTS = 32;
const HOST_BRIDGE_SLOT = 0;

/** The bus's device numbers; number 0 is the host bridge's. */
export class SlotAllocator {
  /** Bit by device number. */
  private taken = 1 << HOST_BRIDGE_SLOT;

  /** @throws PlatformError `ERR_TSVMM_PCI_SLOT` if `slot` is taken, reserved or no device number. */
  reserve(slot: number): void {
    if (slot >= SLOTS) {
      throw new PlatformError(
        'ERR_TSVMM_PCI_SLOT',
        `PCI device number ${slot} is out of range: the last one is ${SLOTS - 1}`,
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
      throw new PlatformError('ERR_TSVMM_PCI_SLOT', `All ${SLOTS} PCI device numbers are taken`);
    }
    const slot = 31 - Math.clz32(free & -free);
    this.taken |= 1 << slot;
    return slot;
  }
}

/** Hands out a window's addresses from the top downwards. What is given back is for others of the same size. */
export class BarAllocator {
  private readonly start: number;
  private end: number;
  /** Given back. */
  private readonly free: { readonly address: number; readonly size: number }[] = [];

  constructor(window: { readonly start: number; readonly size: number }) {
    this.start = window.start;
    this.end = window.start + window.size;
  }

  /**
   * The highest free address for `size` bytes, a power of two, naturally aligned (PCI 3.0 §6.2.5.1).
   * @throws PlatformError `ERR_TSVMM_PCI_BAR` if the window is full.
   */
  allocate(size: number): number {
    const reused = this.free.findIndex((one) => one.size === size);
    if (reused >= 0) return (this.free.splice(reused, 1)[0] as { address: number }).address;
    const top = this.end - size;
    const address = top - (top % size);
    if (address < this.start) {
      throw new PlatformError(
        'ERR_TSVMM_PCI_BAR',
        `No room is left for a device's ${size} bytes of registers`,
      );
    }
    this.end = address;
    return address;
  }

  release(address: number, size: number): void {
    this.free.push({ address, size });
  }
}
