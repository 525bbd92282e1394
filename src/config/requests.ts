/** Bodies of requests that are no configuration. */
import { U32 } from './limits.ts';
import type { Infer } from './schema.ts';

/** What is absent stays as it is. */
export const vmResize = {
  type: 'object',
  name: 'VmResize',
  fields: {
    desired_vcpus: { type: 'integer', max: U32, help: 'Number of vCPUs' },
    desired_ram: { type: 'integer', help: 'Bytes of memory' },
    desired_balloon: { type: 'integer', help: 'Bytes that the guest is to put into its balloon' },
  },
} as const;

export type VmResize = Infer<typeof vmResize>;

export const vmResizeDisk = {
  type: 'object',
  name: 'VmResizeDisk',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the disk' },
    desired_size: { type: 'integer', required: true, help: 'Bytes, a multiple of 512' },
  },
} as const;

export type VmResizeDisk = Infer<typeof vmResizeDisk>;
