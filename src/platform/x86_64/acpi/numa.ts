/**
 * SRAT and SLIT: which processors and memory are near to each other, and how far from others (ACPI 6.5 §5.2.16,
 * §5.2.17).
 */

import { LOCAL_DISTANCE, UNREACHABLE } from '../../../config/numa.ts';
import { finishTable, startTable, type TableArea } from '../../acpi/sdt.ts';
import { SDT_HEADER_SIZE } from '../../acpi/tableHeader.ts';
import { setU64, viewOf } from '../../bytes.ts';

export interface NumaMemory {
  readonly address: number;
  readonly size: number;
  /** Not there at boot. */
  readonly hotplug: boolean;
}

/** A proximity domain. */
export interface NumaNode {
  readonly id: number;
  /** 0 to 254. */
  readonly apicIds: readonly number[];
  readonly memory: readonly NumaMemory[];
  /** A PCI device that is a node without processors and memory: bus, device and function as one number. */
  readonly initiator?: { readonly segment: number; readonly bdf: number };
  /** To those that are not as far as most. */
  readonly distances: ReadonlyMap<number, number>;
}

const SRAT_REVISION = 3;
/** Table revision 1 in compatible systems, and eight reserved bytes. */
const SRAT_RESERVED_SIZE = 12;

const TYPE_PROCESSOR = 0;
const TYPE_MEMORY = 1;
const TYPE_INITIATOR = 5;
const PROCESSOR_LENGTH = 16;
const MEMORY_LENGTH = 40;
const INITIATOR_LENGTH = 32;

const ENABLED = 1 << 0;
const HOT_PLUGGABLE = 1 << 1;
const PCI_HANDLE = 1;

/** To a node of which nothing is said. */
const REMOTE_DISTANCE = 20;

export function buildSrat(nodes: readonly NumaNode[]): Uint8Array {
  let size = SDT_HEADER_SIZE + SRAT_RESERVED_SIZE;
  for (const { apicIds, memory, initiator } of nodes) {
    size += apicIds.length * PROCESSOR_LENGTH + memory.length * MEMORY_LENGTH;
    if (initiator) size += INITIATOR_LENGTH;
  }
  const area = newTable(size, 'SRAT', SRAT_REVISION);
  area.view.setUint32(SDT_HEADER_SIZE, 1, true);
  let at = SDT_HEADER_SIZE + SRAT_RESERVED_SIZE;
  for (const node of nodes) {
    for (const apicId of node.apicIds) at = writeProcessor(area.view, at, node.id, apicId);
    for (const memory of node.memory) at = writeMemory(area.view, at, node.id, memory);
    if (node.initiator) at = writeInitiator(area.view, at, node.id, node.initiator);
  }
  finishTable(area, 0, size);
  return area.bytes;
}

/** §5.2.16.1: for the same processors as the MADT's entries of local APICs. */
function writeProcessor(view: DataView, at: number, node: number, apicId: number): number {
  view.setUint8(at, TYPE_PROCESSOR);
  view.setUint8(at + 1, PROCESSOR_LENGTH);
  view.setUint8(at + 2, node & 0xff);
  view.setUint8(at + 3, apicId);
  view.setUint32(at + 4, ENABLED, true);
  view.setUint8(at + 9, (node >>> 8) & 0xff);
  view.setUint8(at + 10, (node >>> 16) & 0xff);
  view.setUint8(at + 11, node >>> 24);
  return at + PROCESSOR_LENGTH;
}

/** §5.2.16.2. */
function writeMemory(view: DataView, at: number, node: number, memory: NumaMemory): number {
  view.setUint8(at, TYPE_MEMORY);
  view.setUint8(at + 1, MEMORY_LENGTH);
  view.setUint32(at + 2, node, true);
  setU64(view, at + 8, memory.address);
  setU64(view, at + 16, memory.size);
  view.setUint32(at + 28, memory.hotplug ? ENABLED | HOT_PLUGGABLE : ENABLED, true);
  return at + MEMORY_LENGTH;
}

/** §5.2.16.6. */
function writeInitiator(
  view: DataView,
  at: number,
  node: number,
  { segment, bdf }: { readonly segment: number; readonly bdf: number },
): number {
  view.setUint8(at, TYPE_INITIATOR);
  view.setUint8(at + 1, INITIATOR_LENGTH);
  view.setUint8(at + 3, PCI_HANDLE);
  view.setUint32(at + 4, node, true);
  view.setUint16(at + 8, segment, true);
  view.setUint16(at + 10, bdf, true);
  view.setUint32(at + 24, ENABLED, true);
  return at + INITIATOR_LENGTH;
}

/** The matrix is by number: those between the nodes' that are none have a row as well. */
export function buildSlit(nodes: readonly NumaNode[]): Uint8Array {
  const count = Math.max(...nodes.map(({ id }) => id)) + 1;
  const matrix = SDT_HEADER_SIZE + 8;
  const area = newTable(matrix + count * count, 'SLIT', 1);
  setU64(area.view, SDT_HEADER_SIZE, count);
  area.bytes.fill(UNREACHABLE, matrix);
  for (let id = 0; id < count; id++) area.bytes[matrix + id * count + id] = LOCAL_DISTANCE;
  for (const from of nodes) {
    for (const to of nodes) {
      if (to.id === from.id) continue;
      area.bytes[matrix + from.id * count + to.id] = from.distances.get(to.id) ?? REMOTE_DISTANCE;
    }
  }
  finishTable(area, 0, area.bytes.length);
  return area.bytes;
}

function newTable(size: number, signature: string, revision: number): TableArea {
  const bytes = new Uint8Array(size);
  const area = { bytes, view: viewOf(bytes), address: 0 };
  startTable(area, 0, signature, revision);
  return area;
}
