/**
 * The virtual IOMMU (virtio-iommu), which translates what devices behind it access. A machine has one as soon as a
 * device is behind it.
 */
import { iommuSegments } from '../config/platform.ts';
import type { Device, DeviceRecord } from './record.ts';

function isAnyBehind(devices: readonly Device[]): boolean {
  for (const { iommu: isBehind } of devices) if (isBehind) return true;
  return false;
}

const iommuSwitch = { type: 'boolean', default: false, help: 'Add a virtual IOMMU' } as const;

export const iommu: DeviceRecord<'iommu', 'iommu', typeof iommuSwitch> = {
  name: 'iommu',
  field: 'iommu',
  schema: iommuSwitch,
  option: { kind: 'switch', group: 'further' },
  ids: { fixed: '__iommu' },
  isNeeded: ({ platform }, devices) => iommuSegments(platform).length > 0 || isAnyBehind(devices),
  specification: (_, __, { platform }) => ({
    kind: 'iommu',
    addressBits: platform?.iommu_address_width_bits ?? 64,
  }),
};
