/** Tells a guest which of a machine's functions its IOMMU translates for. */

import { PCI_SLOTS } from '../config/limits.ts';
import { iommuSegments } from '../config/platform.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { renderViot, type ViotRange } from './acpi/viot.ts';
import { functionNumber, type Placement } from './placement.ts';

/** Of one slot. */
const LAST_FUNCTION = 7;

/** undefined for a machine that has no IOMMU. */
export function iommuTable(config: VmConfig, placements: readonly Placement[]): Uint8Array | undefined {
  const iommu = placementOf('iommu', placements);
  if (iommu === undefined) return undefined;
  const whole = iommuSegments(config.platform);
  const behind: ViotRange[] = whole.flatMap((segment) => rangesOf(segment, placements));
  for (const { segment, slot, iommu: translated } of placements) {
    if (!translated || whole.includes(segment)) continue;
    const bdf = functionNumber(slot);
    behind.push({ segment, first: bdf, last: bdf });
  }
  return renderViot({ segment: iommu.segment, bdf: functionNumber(iommu.slot) }, behind);
}

function placementOf(name: string, placements: readonly Placement[]): Placement | undefined {
  for (const placement of placements) if (placement.device === name) return placement;
  return undefined;
}

/**
 * All slots of a segment but those of what is never translated: the host bridge and devices that are only switched on.
 */
function rangesOf(segment: number, placements: readonly Placement[]): ViotRange[] {
  const beside = new Set(segment === 0 ? [0] : []);
  for (const one of placements) if (one.segment === segment && !one.iommu) beside.add(one.slot);
  const ranges: ViotRange[] = [];
  for (let slot = 0; slot < PCI_SLOTS; slot++) {
    if (beside.has(slot)) continue;
    let end = slot;
    while (end + 1 < PCI_SLOTS && !beside.has(end + 1)) end++;
    ranges.push({ segment, first: functionNumber(slot), last: functionNumber(end) + LAST_FUNCTION });
    slot = end;
  }
  return ranges;
}
