/** PCI device numbers and BAR addresses on bus 0 of segment 0. */
import { PlatformError } from './platformError.ts';

const SLOTS = 32;
const HOST_BRIDGE_SLOT = 0;

/** The bus's device numbers; number 0 is the host bridge's. */
export class SlotAllocator {
  readonly #taken = new Array<boolean>(SLOTS).fill(false);

  constructor() {
    this.#taken[HOST_BRIDGE_SLOT] = true;
  }

  /** @throws PlatformError `ERR_TSVMM_PCI_SLOT` if `slot` is taken, reserved or no device number. */
  reserve(slot: number): void {
    if (this.#taken[slot] !== false) {
      throw new PlatformError(
        'ERR_TSVMM_PCI_SLOT',
        slot < SLOTS
          ? `PCI device number ${slot} is already taken`
          : `PCI device number ${slot} is out of range: the last one is ${SLOTS - 1}`,
      );
    }
    this.#taken[slot] = true;
  }

  /** Takes the lowest free one. @throws PlatformError `ERR_TSVMM_PCI_SLOT` if there is none. */
  allocate(): number {
    const slot = this.#taken.indexOf(false);
    if (slot < 0) {
      throw new PlatformError('ERR_TSVMM_PCI_SLOT', `All ${SLOTS} PCI device numbers are taken`);
    }
    this.#taken[slot] = true;
    return slot;
  }
}

/** Hands out a window's addresses from the top downwards. */
export class BarAllocator {
  readonly #start: number;
  #end: number;

  constructor(window: { readonly start: number; readonly size: number }) {
    this.#start = window.start;
    this.#end = window.start + window.size;
  }

  /**
   * The highest free address for `size` bytes, a power of two, naturally aligned (PCI 3.0 §6.2.5.1).
   * @throws PlatformError `ERR_TSVMM_PCI_BAR` if the window is full.
   */
  allocate(size: number): number {
    const top = this.#end - size;
    const address = top - (top % size);
    if (address < this.#start) {
      throw new PlatformError(
        'ERR_TSVMM_PCI_BAR',
        `No room is left for a device's ${size} bytes of registers`,
      );
    }
    this.#end = address;
    return address;
  }
}
