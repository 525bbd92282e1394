/** The VIOT (ACPI 6.5 §5.2.33): which PCI functions are behind the virtual IOMMU, and where that is. */
import { viewOf } from '../bytes.ts';
import { finishTable, startTable } from './sdt.ts';
import { SDT_HEADER_SIZE } from './tableHeader.ts';

/** A function's place, as PCI writes it: bus, device and function in one number. */
export interface ViotFunction {
  readonly segment: number;
  readonly bdf: number;
}

/** Functions of one segment, up to and with the last one. */
export interface ViotRange {
  readonly segment: number;
  readonly first: number;
  readonly last: number;
}

const NODES = SDT_HEADER_SIZE + 12;
const PCI_RANGE = 1;
const PCI_RANGE_SIZE = 24;
const VIRTIO_PCI_IOMMU = 3;
const VIRTIO_PCI_IOMMU_SIZE = 16;

/** Bits of a function's number below its segment's. */
const ENDPOINT_SEGMENT_SHIFT = 16;

/** The number by which the IOMMU's driver calls a function; `native/machine/device_set.cc` has the same. */
function endpointOf(segment: number, bdf: number): number {
  return segment * 2 ** ENDPOINT_SEGMENT_SHIFT + bdf;
}

export function renderViot(iommu: ViotFunction, behind: readonly ViotRange[]): Uint8Array {
  const bytes = new Uint8Array(NODES + VIRTIO_PCI_IOMMU_SIZE + behind.length * PCI_RANGE_SIZE);
  const view = viewOf(bytes);
  const area = { bytes, view, address: 0 };
  startTable(area, 0, 'VIOT', 0);
  view.setUint16(SDT_HEADER_SIZE, 1 + behind.length, true);
  view.setUint16(SDT_HEADER_SIZE + 2, NODES, true);
  view.setUint8(NODES, VIRTIO_PCI_IOMMU);
  view.setUint16(NODES + 2, VIRTIO_PCI_IOMMU_SIZE, true);
  view.setUint16(NODES + 4, iommu.segment, true);
  view.setUint16(NODES + 6, iommu.bdf, true);
  let at = NODES + VIRTIO_PCI_IOMMU_SIZE;
  for (const { segment, first, last } of behind) {
    view.setUint8(at, PCI_RANGE);
    view.setUint16(at + 2, PCI_RANGE_SIZE, true);
    view.setUint32(at + 4, endpointOf(segment, first), true);
    view.setUint16(at + 8, segment, true);
    view.setUint16(at + 10, segment, true);
    view.setUint16(at + 12, first, true);
    view.setUint16(at + 14, last, true);
    view.setUint16(at + 16, NODES, true);
    at += PCI_RANGE_SIZE;
  }
  finishTable(area, 0, bytes.length);
  return bytes;
}
