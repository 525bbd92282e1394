/** Memory that is shared with other VMs (ivshmem). */

import { MIB } from '../config/units.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

const DEFAULT_IVSHMEM_SIZE: number = 128 * MIB;

const ivshmemConfig = {
  type: 'object',
  name: 'IvshmemConfig',
  unsupported: true,
  help: 'Memory shared with other VMs (ivshmem)',
  fields: {
    ...pciCommon,
    path: { type: 'string', required: true, help: 'File that backs the memory' },
    size: {
      type: 'integer',
      u64: true,
      size: true,
      default: DEFAULT_IVSHMEM_SIZE,
      help: 'Size of the memory',
    },
  },
} as const;

export const ivshmem: DeviceRecord<'ivshmem', 'ivshmem', typeof ivshmemConfig> = {
  name: 'ivshmem',
  field: 'ivshmem',
  schema: ivshmemConfig,
  option: { kind: 'options' },
  ids: { prefix: '_ivshmem' },
};
