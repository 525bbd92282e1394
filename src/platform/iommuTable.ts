/** Tells a guest which of a machine's functions its IOMMU translates for. */
import { iommuSegments } from '../config/platform.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { renderViot, type ViotRange } from './acpi/viot.ts';
import { functionNumber, type Placement } from './plan.ts';

/** Device and function numbers of a bus. */
const LAST_FUNCTION = 0xff;

/** undefined for a machine that has no IOMMU. */
export function iommuTable(config: VmConfig, placements: readonly Placement[]): Uint8Array | undefined {
  const iommu = placements.find(({ device }) => device === 'iommu');
  if (iommu === undefined) return undefined;
  const whole = iommuSegments(config.platform);
  const behind: ViotRange[] = whole.map((segment) => ({ segment, first: 0, last: LAST_FUNCTION }));
  for (const { segment, slot, iommu: translated } of placements) {
    if (!translated || whole.includes(segment)) continue;
    const bdf = functionNumber(slot);
    behind.push({ segment, first: bdf, last: bdf });
  }
  return renderViot({ segment: iommu.segment, bdf: functionNumber(iommu.slot) }, behind);
}
