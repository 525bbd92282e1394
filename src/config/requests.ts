/** Schemas of request bodies other than configurations. */
import { U32 } from './limits.ts';
import type { Infer } from './schema.ts';

/** What is absent stays as it is. */
export const vmResize = {
  type: 'object',
  name: 'VmResize',
  fields: {
    desired_vcpus: { type: 'integer', max: U32, help: 'Number of vCPUs' },
    desired_ram: { type: 'integer', u64: true, help: 'Bytes of memory' },
    desired_balloon: { type: 'integer', u64: true, help: 'Bytes that the guest is to put into its balloon' },
    wait_ms: {
      type: 'integer',
      max: U32,
      help: 'Answer when the guest has done what it was asked for, and fail after so many milliseconds',
    },
  },
} as const;

export type VmResize = Infer<typeof vmResize>;

export const vmResizeDisk = {
  type: 'object',
  name: 'VmResizeDisk',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the disk' },
    desired_size: { type: 'integer', u64: true, required: true, help: 'Bytes, a multiple of 512' },
  },
} as const;

export const vmResizeZone = {
  type: 'object',
  name: 'VmResizeZone',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the memory zone' },
    desired_ram: {
      type: 'integer',
      u64: true,
      required: true,
      help: 'Bytes, with what the zone has at boot',
    },
    wait_ms: {
      type: 'integer',
      max: U32,
      help: 'Answer when the guest has brought the zone to that size, and fail after so many milliseconds',
    },
  },
} as const;

export const vmRemoveDevice = {
  type: 'object',
  name: 'VmRemoveDevice',
  fields: {
    id: { type: 'string', required: true, help: 'Identifier of the device' },
    wait_ms: {
      type: 'integer',
      max: U32,
      help: 'Answer when the guest has given the device up, and fail after so many milliseconds',
    },
    force: {
      type: 'boolean',
      default: false,
      help: 'Take what is behind the device away from a guest that has not given it up, after wait_ms or at once',
    },
  },
} as const;

export const vmSnapshotConfig = {
  type: 'object',
  name: 'VmSnapshotConfig',
  fields: {
    destination_url: { type: 'string', required: true, help: 'An existing folder, file:///path' },
  },
} as const;

export const vmCoredumpData = {
  type: 'object',
  name: 'VmCoredumpData',
  fields: {
    destination_url: { type: 'string', required: true, help: 'A file that is not there yet, file:///path' },
  },
} as const;
