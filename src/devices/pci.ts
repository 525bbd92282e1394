/** What all PCI devices have in common. */
import { U8, U16 } from '../config/limits.ts';

/** Fields that every PCI device shares, flattened into the device's own object. */
export const pciCommon = {
  id: { type: 'string', help: 'Device identifier, unique in the VM' },
  iommu: {
    type: 'boolean',
    falseIsAbsent: true,
    help: 'Put the device behind a virtual IOMMU',
  },
  pci_segment: { type: 'integer', max: U16, default: 0, help: 'PCI segment number' },
  pci_device_id: {
    type: 'integer',
    max: U8,
    help: 'PCI slot, 1 to 31, in segments other than 0 from 0; the next free one unless given',
  },
} as const;
