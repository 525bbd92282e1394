/** The machine's PCI segments: how the address space for BARs is divided between them. */
import type { VmConfig } from '../config/vmConfig.ts';
import { PlatformError } from './platformError.ts';

/** `start` and `size` in bytes. */
export interface PciWindow {
  readonly start: number;
  readonly size: number;
}

/** Where BARs of a segment's functions are, below and above 4 GiB. */
export interface SegmentWindows {
  readonly window32: PciWindow;
  readonly window64: PciWindow;
}

export interface PciSegment extends SegmentWindows {
  readonly number: number;
  readonly ecam: { readonly address: number; readonly size: number };
  /** The NUMA node that it is in, where the configuration says so. */
  readonly proximity?: number;
}

/** BARs of no device are smaller than a page. */
const ALIGNMENT = 4096;

/**
 * By number; each gets a share by its weight, which may be nothing but for segment 0, whose windows tables always have.
 * @throws PlatformError `ERR_TSVMM_PCI_BAR`
 */
export function divideWindows(config: VmConfig, window32: PciWindow, window64: PciWindow): SegmentWindows[] {
  const count = config.platform?.num_pci_segments ?? 1;
  if (count === 1) return [{ window32, window64 }];
  const weights = (key: 'mmio32_aperture_weight' | 'mmio64_aperture_weight') => {
    const of = (segment: number) => config.pci_segments?.find(({ pci_segment }) => pci_segment === segment);
    return Array.from({ length: count }, (_, segment) => of(segment)?.[key] ?? 1);
  };
  const parts32 = divide(window32, weights('mmio32_aperture_weight'));
  const parts64 = divide(window64, weights('mmio64_aperture_weight'));
  if (parts32[0]?.size === 0 || parts64[0]?.size === 0) {
    throw new PlatformError(
      'ERR_TSVMM_PCI_BAR',
      'The weights of the others leave PCI segment 0 no address space',
    );
  }
  return parts32.map((part, segment) => ({ window32: part, window64: parts64[segment] as PciWindow }));
}

/** Weights are of 32 bits, and sizes of up to 52: their product is not exact as a number. */
function divide({ start, size }: PciWindow, weights: readonly number[]): PciWindow[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let next = start;
  return weights.map((weight) => {
    const share = Number((BigInt(size) * BigInt(weight)) / BigInt(total));
    const part = { start: next, size: share - (share % ALIGNMENT) };
    next += part.size;
    return part;
  });
}
