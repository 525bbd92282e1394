/** Memory that host and guest share: ivshmem, and what lets a guest control the host's side of its memory. */
import { pciCommon } from './pci.ts';

const DEFAULT_IVSHMEM_SIZE: number = 128 * 1024 * 1024;

export const ivshmemConfig = {
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

export const pvmemcontrolConfig = {
  type: 'object',
  name: 'PvmemcontrolConfig',
  unsupported: true,
  help: 'Let the guest control its memory',
  fields: {},
} as const;
