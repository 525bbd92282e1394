/** Where PCI devices are on their buses, and how such a place is written. */

/** Where a PCI device was put. */
export interface Placement {
  readonly id: string;
  /** As the core calls it. */
  readonly kind: string;
  /** The name of its record. */
  readonly device: string;
  /** False for a function with registers of its own kind. */
  readonly virtio: boolean;
  /** Place in the configuration's array of such devices; 0 for devices that there is one of. */
  readonly index: number;
  readonly segment: number;
  /** Device number on the segment's bus 0. */
  readonly slot: number;
  /** It is behind the machine's IOMMU. */
  readonly iommu: boolean;
  readonly bar0: number;
  readonly bar0Is64Bit: boolean;
  readonly bar0Size: number;
  /** Of a device with memory of its own; always 64-bit. */
  readonly bar2?: { readonly base: number; readonly size: number };
}

/** Bus, device and function of a device number, as one number. */
export function functionNumber(slot: number): number {
  return slot * 8;
}

/** Segment, bus, device and function in their usual notation. */
export function bdfOf({ segment, slot }: Pick<Placement, 'segment' | 'slot'>): string {
  return `${hex(segment, 4)}:00:${hex(slot, 2)}.0`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
